"""BEiT-3 against its official code: on the golden checkpoint, and on another size whose numbers are kept here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

import lmm4rec
import official
from lmm4rec.core.types import Inputs, Item
from lmm4rec.encoders.beit3 import Beit3

NUMBERS: dict[str, Any] = json.loads(Path(__file__).with_name("beit3.json").read_text(encoding="utf-8"))
SIZES = NUMBERS["sizes"]
ALL = "image+text+fused"


def by_formula(folder: Path) -> str:
    torch.save({"model": official.by_formula(official.beit3_shapes(**SIZES))}, folder / "beit3.pth")
    return str(folder / "beit3.pth")


def formula_inputs() -> Inputs:
    ids, mask = official.sentences(NUMBERS["lengths"], max(NUMBERS["lengths"]), SIZES["vocabulary"])
    return Inputs(official.images(2, SIZES["side"] * SIZES["patch"]), ids, mask)


@pytest.mark.long
@pytest.mark.parametrize("modality", ["image", "text", "fused"])
def test_the_official_code_s_vectors_at_another_size(tmp_path: Path, modality: str) -> None:
    encoder = lmm4rec.load_encoder("beit3", checkpoint=by_formula(tmp_path), heads=NUMBERS["heads"], outputs=ALL).eval()
    with torch.inference_mode():
        vectors = encoder(formula_inputs())[modality]
    np.testing.assert_allclose(vectors.numpy(), np.array(NUMBERS[modality]), atol=1e-5)


def golden(shared: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(shared / "golden" / "beit3_tiny.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 (no mapping)


@pytest.fixture
def tiny(shared: Path, tmp_path: Path) -> tuple[Beit3, Inputs, dict[str, Tensor]]:
    """The golden checkpoint, read as the official file is, with its inputs and outputs."""
    tensors, sizes = golden(shared)
    weights = {name.removeprefix("ckpt."): value for name, value in tensors.items() if name.startswith("ckpt.")}
    torch.save({"model": weights}, tmp_path / "beit3.pth")
    encoder = Beit3(
        checkpoint=str(tmp_path / "beit3.pth"), heads=int(sizes["heads"]), image_size=int(sizes["image_size"]),
        patch=int(sizes["patch"]), text_len=int(sizes["text_len"]), outputs=ALL,
        tokenizer=str(shared / "golden" / "beit3.spm"),
    )  # fmt: skip
    inputs = Inputs(tensors["in.image"], tensors["in.text_ids"], tensors["in.padding_mask"] == 0)
    return encoder.eval(), inputs, tensors


def test_the_golden_vectors(tiny: tuple[Beit3, Inputs, dict[str, Tensor]]) -> None:
    encoder, inputs, golden = tiny
    with torch.inference_mode():
        vectors = encoder(inputs)
    for modality in ("image", "text"):
        assert (vectors[modality] - golden[f"out.{modality}_embed"]).abs().max() <= 1e-5
    tokens = golden["out.fused_tokens"]
    expected = torch.cat([tokens[:, 0], tokens[:, 17]], dim=1)
    assert (vectors["fused"] - expected).abs().max() <= 1e-5


def test_the_golden_states_of_all_real_tokens(tiny: tuple[Beit3, Inputs, dict[str, Tensor]]) -> None:
    encoder, inputs, golden = tiny
    words = inputs.text_mask
    assert words is not None
    assert not words.all()
    everywhere = torch.ones(len(words), 17, dtype=torch.bool)
    with torch.inference_mode():
        pairs = [
            (encoder.model.last_states(inputs, "image"), "image_tokens", everywhere),
            (encoder.model.last_states(inputs, "text"), "text_tokens", words),
            (encoder.model.last_states(inputs, "fused"), "fused_tokens", torch.cat([everywhere, words], dim=1)),
        ]
    for states, name, real in pairs:
        assert (states - golden[f"out.{name}"])[real].abs().max() <= 1e-5, name


def test_the_golden_tokens(shared: Path, tiny: tuple[Beit3, Inputs, dict[str, Tensor]]) -> None:
    encoder = tiny[0]
    encoder.text, encoder.text_len = "{title}", 64
    tokens: dict[str, Any] = json.loads((shared / "golden" / "tokens.json").read_text(encoding="utf-8"))
    for sentence, expected in zip(tokens["sentences"], tokens["beit3"]["ids"], strict=True):
        (ids,) = encoder.tokenizer([sentence], 64)
        assert ids + [1] * (64 - len(ids)) == expected, sentence
        inputs = encoder.prepare([Item("1", {"title": sentence})])
        assert inputs.text_ids is not None
        assert inputs.text_mask is not None
        assert inputs.text_ids[0].tolist() == ids
        assert inputs.text_mask[0].tolist() == [bool(sentence)] * len(ids)


def test_the_golden_pixels(shared: Path, tmp_path: Path, tiny: tuple[Beit3, Inputs, dict[str, Tensor]]) -> None:
    class Golden:
        def open(self) -> Image.Image:
            return Image.open(shared / "golden" / "pixels.png").convert("RGB")

        def digest(self) -> str:
            return "golden"

    encoder = Beit3(
        checkpoint=str(tmp_path / "beit3.pth"), heads=4, image_size=224, outputs="image"
    )  # its positions are interpolated
    pixels = encoder.prepare([Item("1", {}, Golden())]).pixels
    assert pixels is not None
    expected = np.load(shared / "golden" / "pixels.npz")["squash_half"]
    np.testing.assert_allclose(pixels[0].numpy()[:, ::8, ::8], expected, atol=1e-5)
