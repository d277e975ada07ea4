"""Official layouts are read, what is missing or foreign is said, and nothing in a file is run."""

from __future__ import annotations

import argparse
import logging
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import lmm4rec
import official
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Inputs
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoders.beit3 import Beit3
from lmm4rec.encoders.vlmo import Vlmo

BEIT3 = official.beit3_shapes(dim=20, layers=2, ffn=32, side=4, patch=4, vocabulary=33, rows=19)
VLMO_SIZES = {
    "dim": 20, "layers": 3, "heads": 5, "ffn": 32, "side": 4, "patch": 4, "vocabulary": 33, "rows": 17, "vl_start": 2,
}  # fmt: skip
VLMO = official.vlmo_shapes(**VLMO_SIZES)  # type: ignore[arg-type]
IDS, MASK = official.sentences([7, 3], 7, 33)
ALL = "image+text+fused"


def save(folder: Path, content: object, name: str = "checkpoint.pth") -> str:
    torch.save(content, folder / name)
    return str(folder / name)


def vectors(encoder: Encoder, size: int = 16) -> dict[str, Tensor]:
    with torch.inference_mode():
        return encoder.eval()(Inputs(official.images(2, size), IDS, MASK))


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["beit3", "vlmo"])
def test_every_official_layout_is_the_same_encoder(tmp_path: Path, kind: str) -> None:
    state = official.by_formula(BEIT3 if kind == "beit3" else VLMO)
    wrapped = {f"module.{name}": tensor for name, tensor in state.items()}
    layouts = [
        state, {"model": state}, {"module": state}, {"module": wrapped, "global_step": 3}, {"state_dict": wrapped},
        {"model": state, "args": argparse.Namespace(lr=1e-4), "epoch": 3},
    ]  # fmt: skip
    files = [save(tmp_path, layout, f"{index}.pt") for index, layout in enumerate(layouts)]
    save_file(state, tmp_path / "x.safetensors")
    first = vectors(lmm4rec.load_encoder(kind, checkpoint=files[0], heads=5, outputs=ALL))
    for file in [*files[1:], str(tmp_path / "x.safetensors")]:
        assert same(vectors(lmm4rec.load_encoder(kind, checkpoint=file, heads=5, outputs=ALL)), first), file


def test_half_precision_is_read_as_float32(tmp_path: Path) -> None:
    state = official.by_formula(BEIT3)
    halves = {name: tensor.half() for name, tensor in state.items()}
    encoder = Beit3(checkpoint=save(tmp_path, {"module": halves}), heads=5)
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", ["beit3", "vlmo"])
def test_all_missing_weights_are_listed(tmp_path: Path, kind: str) -> None:
    state = official.by_formula(BEIT3 if kind == "beit3" else VLMO)
    lost = {
        "beit3": ["beit3.encoder.layers.1.ffn.B.fc1.bias", "beit3.text_embed.weight", "vision_head.weight"],
        "vlmo": ["itc_text_proj.fc.weight", "transformer.blocks.2.mlp_vl.fc1.weight", "transformer.cls_token"],
    }[kind]
    for name in lost:
        del state[name]
    with pytest.raises(ConfigError, match=rf"lacks 3 of the weights of \S+: {re.escape(', '.join(lost))}\. It holds"):
        lmm4rec.load_encoder(kind, checkpoint=save(tmp_path, state), heads=5)


@pytest.mark.slow
def test_each_single_weight_is_missed(tmp_path: Path) -> None:
    """None of them can be left out in silence."""
    for kind, shapes in (("beit3", BEIT3), ("vlmo", VLMO)):
        state = official.by_formula(shapes)
        for name in state:
            file = save(tmp_path, {key: tensor for key, tensor in state.items() if key != name})
            with pytest.raises(ConfigError, match=rf"lacks \d+ .*{re.escape(name)}"):
                lmm4rec.load_encoder(kind, checkpoint=file, heads=5)


def test_another_model_s_checkpoint_is_refused(tmp_path: Path) -> None:
    file = save(tmp_path, official.by_formula(VLMO))
    with pytest.raises(ConfigError, match=r"lacks \d+ of the weights of BEiT-3: .* It holds: .*transformer\.\*"):
        Beit3(checkpoint=file)


def test_heads_are_needed_where_they_are_used_alone(tmp_path: Path) -> None:
    heads = ("vision_head.weight", "language_head.weight", "logit_scale")
    state = {name: tensor for name, tensor in official.by_formula(BEIT3).items() if name not in heads}
    file = save(tmp_path, {"model": state})
    with pytest.raises(
        ConfigError, match=r'language_head\.weight.*without retrieval heads it can give outputs = "fused"'
    ):
        Beit3(checkpoint=file, heads=5)
    whole = Beit3(checkpoint=save(tmp_path, official.by_formula(BEIT3), "whole.pth"), heads=5, outputs="fused")
    assert same(vectors(Beit3(checkpoint=file, heads=5, outputs="fused")), vectors(whole))


@pytest.mark.long
def test_a_vlmo_that_is_tuned_for_retrieval_lacks_the_heads_of_the_other_variant(tmp_path: Path) -> None:
    state = official.by_formula(VLMO)
    tuned = {name: tensor for name, tensor in state.items() if "itc_vl" not in name and "vl_scale" not in name}
    file = save(tmp_path, tuned)
    whole = Vlmo(checkpoint=save(tmp_path, state, "whole.pt"), outputs=ALL)
    assert same(vectors(Vlmo(checkpoint=file, outputs=ALL)), vectors(whole))
    with pytest.raises(ConfigError, match=r"lacks 3 .*itc_vl_image_proj\.fc\.weight"):
        Vlmo(checkpoint=file, variant="vl")


def test_other_heads_are_ignored_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = official.by_formula(VLMO)
    extra = {"mlm_score.bias": torch.zeros(3), "relative_position_index": torch.zeros(17, 17, dtype=torch.int64)}
    with caplog.at_level(logging.INFO):
        encoder = Vlmo(checkpoint=save(tmp_path, state | extra))
    (message,) = caplog.messages
    assert "ignored 2 tensors that VLMo does not use: mlm_score.bias, relative_position_index" in message
    assert same(vectors(encoder), vectors(Vlmo(checkpoint=save(tmp_path, state, "plain.pt"))))


def test_weights_of_another_shape_are_named(tmp_path: Path) -> None:
    state = official.by_formula(BEIT3) | {"beit3.encoder.layers.1.ffn.A.fc1.bias": torch.zeros(31)}
    with pytest.raises(ConfigError, match=r"layers\.1\.ffn\.A\.fc1\.bias is \[31\], expected \[32\]"):
        Beit3(checkpoint=save(tmp_path, state), heads=5)


class Trap:
    """What a malicious file holds: reading it whole would run this."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("trapped"),)  # type: ignore[return-value]


def test_nothing_in_a_file_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="holds more than weights"):
        Beit3(checkpoint=save(tmp_path, {"model": official.by_formula(BEIT3), "extra": Trap()}))
    assert not Path("trapped").exists()


def test_what_is_no_checkpoint_says_so(tmp_path: Path) -> None:
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    (tmp_path / "torn.pth").write_bytes(b"torn")
    for name in ("torn.safetensors", "torn.pth"):
        with pytest.raises(ConfigError, match=rf"{name}' (is damaged|holds more than weights)"):
            Beit3(checkpoint=str(tmp_path / name))
    with pytest.raises(ConfigError, match=r"there are torn\.pth, torn\.safetensors"):
        Beit3(checkpoint=str(tmp_path))
    with pytest.raises(ConfigError, match="holds no tensors; its keys are epoch"):
        Beit3(checkpoint=save(tmp_path, {"epoch": 3}))
    with pytest.raises(ConfigError, match="holds list, expected a mapping"):
        Beit3(checkpoint=save(tmp_path, [1]))


@pytest.mark.long
@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("beit3", {}, "give heads: the number of attention heads does not follow from the weights, which are 20 wide"),
        ("beit3", {"heads": 3}, "3 attention heads do not divide the checkpoint's width of 20"),
        ("beit3", {"heads": 5, "patch": 8}, "patch = 8, but the checkpoint's patches are 4 x 4 pixels"),
        ("beit3", {"heads": 5, "image_size": 18}, "image_size = 18 is not a multiple of the checkpoint's patches of 4"),
        ("beit3", {"heads": 5, "text_len": 18}, "text_len = 18, but the checkpoint is for texts of 2 to 17 tokens"),
        ("beit3", {"heads": 5, "tokenizer": "no.spm"}, "there is no vocabulary at 'no.spm': give the path of"),
        ("vlmo", {"heads": 4}, "heads = 4, but the checkpoint's relative position biases are for 5 heads"),
        ("vlmo", {"patch": 8}, "patch = 8, but the checkpoint's patches are 4 x 4 pixels"),
        ("vlmo", {"image_size": 18}, "image_size = 18 is not a multiple"),
        ("vlmo", {"reach": 100}, "bias table of 446 rows fits no image size with reach = 100"),
        ("vlmo", {"text_len": 197}, "text_len = 197, but the checkpoint is for texts of 2 to 196 tokens"),
    ],
)  # fmt: skip
def test_parameters_that_contradict_the_weights_are_refused(
    tmp_path: Path, kind: str, options: dict[str, object], says: str
) -> None:
    file = save(tmp_path, official.by_formula(BEIT3 if kind == "beit3" else VLMO))
    with pytest.raises(ConfigError, match=re.escape(says)):
        lmm4rec.load_encoder(kind, checkpoint=file, **options)


@pytest.mark.long
@pytest.mark.parametrize("reach", [196, 30, None])
def test_another_image_size_and_back_to_the_same(tmp_path: Path, reach: int | None) -> None:
    """The saved encoder has the size it was loaded with; a larger one keeps an image's vector near."""
    shapes = official.vlmo_shapes(**VLMO_SIZES | {"reach": reach})  # type: ignore[arg-type]
    file = save(tmp_path, official.by_formula(shapes))
    known = {"heads": 5, "outputs": ALL, "reach": reach} if reach else {"heads": 5, "outputs": ALL}
    larger = Vlmo(checkpoint=file, image_size=24, **known)  # type: ignore[arg-type]
    larger.save_pretrained(tmp_path / "larger")
    again = Vlmo(checkpoint=str(tmp_path / "larger"), outputs=ALL)
    assert again.model.shape.image_size == 24
    assert same(vectors(again, 24), vectors(larger, 24))
    same_size = Vlmo(checkpoint=file, image_size=16, **known)  # type: ignore[arg-type]
    if reach == 196:  # the official reach tells the size by itself
        assert same(vectors(Vlmo(checkpoint=file, outputs=ALL)), vectors(same_size))


@pytest.mark.long
def test_a_bias_table_of_unknown_reach_asks_for_the_size(tmp_path: Path) -> None:
    shapes = official.vlmo_shapes(**VLMO_SIZES | {"reach": 30})  # type: ignore[arg-type]
    file = save(tmp_path, official.by_formula(shapes))
    with pytest.raises(ConfigError, match="give the image_size of the checkpoint, or as reach"):
        Vlmo(checkpoint=file)
    expected = vectors(Vlmo(checkpoint=file, reach=30))
    assert same(vectors(Vlmo(checkpoint=file, image_size=16)), expected)
    index = {"relative_position_index": torch.zeros(17, 17, dtype=torch.int64)}
    file = save(tmp_path, official.by_formula(shapes) | index)
    assert same(vectors(Vlmo(checkpoint=file)), expected)
