"""VLMo against its official code on the golden checkpoints, and against its equations in NumPy at other sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor

import lmm4rec
import official
from lmm4rec.core.types import Inputs, Item
from lmm4rec.encoders.vlmo import Vlmo
from vlmo_by_hand import VlmoByHand

ALL = "image+text+fused"
Variant: TypeAlias = Literal["itc", "vl"]
VARIANTS: tuple[Variant, ...] = ("itc", "vl")

SIZES: dict[str, dict[str, Any]] = {
    "official reach, VL experts in the last block": {
        "dim": 24, "layers": 3, "heads": 3, "ffn": 40, "side": 3, "patch": 5, "vocabulary": 29, "rows": 12,
        "vl_start": 2,
    },
    "another reach, no layer scale, VL experts from block 1": {
        "dim": 20, "layers": 4, "heads": 2, "ffn": 32, "side": 4, "patch": 4, "vocabulary": 23, "rows": 9,
        "vl_start": 1, "reach": 17, "layer_scale": False,
    },
    "absolute positions, layer scale, no VL experts": {
        "dim": 18, "layers": 2, "heads": 3, "ffn": 30, "side": 3, "patch": 6, "vocabulary": 31, "rows": 8,
        "vl_start": 2, "reach": None,
    },
}  # fmt: skip


@pytest.mark.long
@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_equations_at_other_sizes(tmp_path: Path, name: str, variant: Variant) -> None:
    sizes = SIZES[name]
    state = official.by_formula(official.vlmo_shapes(**sizes))
    torch.save({"state_dict": state}, tmp_path / "vlmo.pt")
    size, length, vocabulary = sizes["side"] * sizes["patch"], 7, sizes["vocabulary"]
    ids, mask = official.sentences([length, 4], length, vocabulary)
    pixels = official.images(2, size)
    by_hand = VlmoByHand(
        {name: value.numpy() for name, value in state.items()},
        heads=sizes["heads"], side=sizes["side"], reach=sizes.get("reach", 196) or 0,
    )  # fmt: skip
    encoder = lmm4rec.load_encoder(
        "vlmo",
        checkpoint=str(tmp_path / "vlmo.pt"),
        heads=sizes["heads"],
        image_size=size,
        outputs=ALL,
        variant=variant,
    ).eval()
    with torch.inference_mode():
        vectors = encoder(Inputs(pixels, ids, mask))
    for row, words in enumerate((ids[0].tolist(), ids[1, :4].tolist())):
        image = pixels[row].numpy()
        expected = {
            "image": by_hand.image(image, vl=variant == "vl"),
            "text": by_hand.text(words, vl=variant == "vl"),
            "fused": by_hand.fused(image, words)[0],
        }
        for modality, x in expected.items():
            np.testing.assert_allclose(vectors[modality][row].numpy(), x, atol=1e-5, err_msg=modality)


@pytest.fixture(params=["vlmo_base_tiny", "vlmo_plus_tiny"])
def golden(request: pytest.FixtureRequest, shared: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(shared / "golden" / f"{request.param}.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 (no mapping)


def load(tensors: dict[str, Tensor], sizes: dict[str, str], folder: Path, variant: Variant = "itc") -> Vlmo:
    """The golden checkpoint, read as a file that distributed training wrote."""
    weights = {"module." + name.removeprefix("ckpt."): tensors[name] for name in tensors if name.startswith("ckpt.")}
    torch.save({"module": weights, "global_step": 1}, folder / "vlmo.pt")
    encoder = Vlmo(
        checkpoint=str(folder / "vlmo.pt"), heads=int(sizes["heads"]), image_size=int(sizes["image_size"]),
        patch=int(sizes["patch"]), text_len=int(sizes["text_len"]), outputs=ALL, variant=variant,
    )  # fmt: skip
    return encoder.eval()


def golden_inputs(tensors: dict[str, Tensor]) -> Inputs:
    return Inputs(tensors["in.image"], tensors["in.text_ids"], tensors["in.text_mask"] == 1)


@pytest.mark.long
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_golden_vectors(golden: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path, variant: Variant) -> None:
    tensors, sizes = golden
    encoder = load(tensors, sizes, tmp_path, variant)
    with torch.inference_mode():
        vectors = encoder(golden_inputs(tensors))
    ending = "" if variant == "itc" else "_vl"
    for modality in ("image", "text"):
        assert (vectors[modality] - tensors[f"out.{modality}_embed{ending}"]).abs().max() <= 1e-5
    assert (vectors["fused"] - tensors["out.fused_pooled"]).abs().max() <= 1e-5


def test_the_golden_states_of_all_real_tokens(golden: tuple[dict[str, Tensor], dict[str, str]], tmp_path: Path) -> None:
    tensors, sizes = golden
    encoder, inputs = load(tensors, sizes, tmp_path), golden_inputs(tensors)
    words = inputs.text_mask
    assert words is not None
    assert not words.all()
    with torch.inference_mode():
        states = encoder.model.last_states(inputs, "fused")
    length = words.shape[1]
    assert (states[:, :length] - tensors["out.fused_text_tokens"])[words].abs().max() <= 1e-5
    assert (states[:, length:] - tensors["out.fused_image_tokens"]).abs().max() <= 1e-5


def test_the_equations_are_those_of_the_official_code(golden: tuple[dict[str, Tensor], dict[str, str]]) -> None:
    """So that what agrees with the equations at other sizes agrees with the official code."""
    tensors, sizes = golden
    weights = {name.removeprefix("ckpt."): x.numpy() for name, x in tensors.items() if name.startswith("ckpt.")}
    side = int(sizes["image_size"]) // int(sizes["patch"])
    by_hand = VlmoByHand(weights, heads=int(sizes["heads"]), side=side, reach=int(sizes["text_len_of_init"]))
    for row in range(2):
        words = tensors["in.text_ids"][row][tensors["in.text_mask"][row] == 1].tolist()
        image = tensors["in.image"][row].numpy()
        for vl in (False, True):
            ending = "_vl" if vl else ""
            for modality, x in (("image", by_hand.image(image, vl=vl)), ("text", by_hand.text(words, vl=vl))):
                np.testing.assert_allclose(tensors[f"out.{modality}_embed{ending}"][row].numpy(), x, atol=1e-5)
        pooled, states = by_hand.fused(image, words)
        np.testing.assert_allclose(tensors["out.fused_pooled"][row].numpy(), pooled, atol=1e-5)
        np.testing.assert_allclose(tensors["out.fused_image_tokens"][row].numpy(), states[len(words) :], atol=1e-5)


def test_the_golden_tokens(shared: Path, tmp_path: Path) -> None:
    sizes = SIZES["official reach, VL experts in the last block"]
    torch.save(official.by_formula(official.vlmo_shapes(**sizes)), tmp_path / "vlmo.pt")
    encoder = Vlmo(
        checkpoint=str(tmp_path / "vlmo.pt"), heads=3, text="{title}", text_len=40,
        vocabulary=str(shared / "golden" / "bert-base-uncased-vocab.txt"), outputs="text",
    )  # fmt: skip
    tokens: dict[str, Any] = json.loads((shared / "golden" / "tokens.json").read_text(encoding="utf-8"))
    for sentence, expected in zip(tokens["sentences"], tokens["vlmo"]["ids"], strict=True):
        (ids,) = encoder.tokenizer([sentence], 40)
        assert ids + [0] * (40 - len(ids)) == expected, sentence
        inputs = encoder.prepare([Item("1", {"title": sentence})])
        assert inputs.text_ids is not None
        assert inputs.text_mask is not None
        assert inputs.text_ids[0].tolist() == ids
        assert inputs.text_mask[0].tolist() == [bool(sentence)] * len(ids)
