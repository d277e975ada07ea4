"""Files in CLIP's original layout against the original forward pass, written out in a few lines of plain torch."""

from __future__ import annotations

import json
import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Inputs, Item
from lmm4rec.encoders.clip import Clip

pytest.importorskip("transformers")


@dataclass(frozen=True)
class Size:
    patch: int = 8
    grid: int = 4
    width: int = 64
    layers: int = 2
    heads: int = 1
    mlp: int = 4
    text_width: int = 64
    text_layers: int = 3
    text_heads: int = 1
    text_len: int = 12
    vocabulary: int = 50
    dim: int = 24


SIZES = {
    "like the released ones": Size(),
    "wide": Size(patch=7, grid=3, width=128, heads=2, text_width=192, text_heads=3, dim=40, layers=1),
    "odd": Size(
        patch=5, grid=5, width=36, heads=3, mlp=3, text_width=27, text_heads=3, text_len=7, vocabulary=601, dim=17
    ),
    "towers that differ": Size(grid=2, width=48, heads=4, text_width=40, text_heads=5, vocabulary=33, text_layers=1),
}


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        parts = {"c_fc": nn.Linear(width, mlp * width), "gelu": QuickGELU(), "c_proj": nn.Linear(mlp * width, width)}
        self.mlp = nn.Sequential()
        for name, part in parts.items():
            self.mlp.add_module(name, part)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Tower(nn.Module):
    def __init__(self, width: int, layers: int, heads: int, mlp: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, mlp) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self, size: Size) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, size.width, size.patch, size.patch, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(size.width))
        self.positional_embedding = nn.Parameter(torch.randn(1 + size.grid**2, size.width))
        self.ln_pre, self.ln_post = nn.LayerNorm(size.width), nn.LayerNorm(size.width)
        self.transformer = Tower(size.width, size.layers, size.heads, size.mlp)
        self.proj = nn.Parameter(torch.randn(size.width, size.dim))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(pixels), 1, -1), patches], dim=1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class Original(nn.Module):
    """The model of arXiv 2103.00020 under the names of its released files."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.visual = Visual(size)
        self.transformer = Tower(size.text_width, size.text_layers, size.text_heads, size.mlp)
        self.token_embedding = nn.Embedding(size.vocabulary, size.text_width)
        self.positional_embedding = nn.Parameter(torch.randn(size.text_len, size.text_width))
        self.ln_final = nn.LayerNorm(size.text_width)
        self.text_projection = nn.Parameter(torch.randn(size.text_width, size.dim))
        self.logit_scale = nn.Parameter(torch.tensor(2.6592))

    def forward(self, pixels: Tensor, ids: Tensor) -> dict[str, Tensor]:
        length = ids.shape[1]
        ahead = torch.full((length, length), float("-inf")).triu(1)
        x = self.transformer(self.token_embedding(ids) + self.positional_embedding[:length], ahead)
        text = self.ln_final(x)[torch.arange(len(ids)), ids.argmax(dim=1)] @ self.text_projection
        return {"image": F.normalize(self.visual(pixels), dim=1), "text": F.normalize(text, dim=1)}


def original(size: Size, seed: int = 0) -> Original:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Original(size)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def inputs(size: Size) -> Inputs:
    """Texts of all lengths, padded with 0; the end has the highest id, and one text holds the second highest too."""
    generator = torch.Generator().manual_seed(1)
    edge = size.patch * size.grid
    ids = torch.zeros(5, size.text_len, dtype=torch.int64)
    for row, length in enumerate((size.text_len, 3, 5, 4, size.text_len - 1)):
        ids[row, :length] = torch.randint(1, size.vocabulary - 2, (length,), generator=generator)
        ids[row, 0], ids[row, length - 1] = size.vocabulary - 2, size.vocabulary - 1
    ids[2, 1] = 2  # the id that transformers once took for the end
    return Inputs(torch.randn(5, 3, edge, edge, generator=generator), ids, ids > 0)


def parity(encoder: Clip, model: Original, given: Inputs) -> None:
    assert given.pixels is not None
    assert given.text_ids is not None
    with torch.inference_mode():
        got, expected = encoder(given), model(given.pixels, given.text_ids)
    for modality, rows in expected.items():
        torch.testing.assert_close(got[modality], rows, atol=1e-5, rtol=0)


GIVEN: dict[str, Any] = {"heads": 1, "activation": "quick_gelu"}  # what shapes do not tell


def options(size: Size) -> dict[str, int]:
    return {"heads": size.heads, "text_heads": size.text_heads}


@pytest.mark.long
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_vectors_are_those_of_the_original_forward(size: Size, tmp_path: Path) -> None:
    model = original(size)
    torch.save(model.state_dict(), tmp_path / "clip.pt")
    encoder = Clip(checkpoint=str(tmp_path / "clip.pt"), **options(size), activation="quick_gelu")
    assert encoder.dims == {"image": size.dim, "text": size.dim}
    assert encoder.text_len == size.text_len
    assert sum(p.numel() for p in encoder.parameters()) == sum(p.numel() for p in model.parameters())
    parity(encoder, model, inputs(size))
    said = {"patch": size.patch, "image_size": size.patch * size.grid, "text_len": size.text_len}
    parity(Clip(checkpoint=str(tmp_path / "clip.pt"), **GIVEN | options(size), **said), model, inputs(size))


def _bare(model: Original, file: Path) -> Path:
    torch.save(model.state_dict(), file)
    return file


def _half(model: Original, file: Path) -> Path:
    """As released: a TorchScript archive in half precision, with its numbers as buffers."""
    for module in (model, model.visual):
        module.register_buffer("input_resolution", torch.tensor(32))
    model.register_buffer("context_length", torch.tensor(12))
    model.register_buffer("vocab_size", torch.tensor(50))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        example = (torch.zeros(1, 3, 32, 32), torch.ones(1, 12, dtype=torch.int64))
        traced = torch.jit.trace(model, example, strict=False, check_trace=False)
        traced.half().save(str(file))
    return file


def _wrapped(model: Original, file: Path) -> Path:
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state, "optimizer": {"state": {}}}, file)
    return file


def _safe(model: Original, file: Path) -> Path:
    file = file.with_suffix(".safetensors")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    return file


@pytest.mark.long
@pytest.mark.parametrize("write", [_bare, _half, _wrapped, _safe])
def test_every_way_of_writing_the_file(write: Callable[[Original, Path], Path], tmp_path: Path) -> None:
    size = Size()
    model = original(size)
    file = write(model, tmp_path / "clip.pt")
    model.half().float()
    encoder = Clip(checkpoint=str(file), **{"heads": 1} if write is _half else GIVEN)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.float32}
    if write is _half:
        parity(encoder, model, inputs(size))
    else:
        parity(encoder, original(size), inputs(size))


@pytest.mark.long
def test_texts_are_cut_short_and_gelu_is_the_exact_one_where_said(tmp_path: Path) -> None:
    size = Size()
    file = str(_bare(original(size), tmp_path / "clip.pt"))
    assert Clip(checkpoint=file, text_len=9, **GIVEN).text_len == 9
    quick, exact = (Clip(checkpoint=file, heads=1, activation=name) for name in ("quick_gelu", "gelu"))
    assert quick.fingerprint() != exact.fingerprint()
    model = original(size)
    for module in model.modules():
        if isinstance(module, nn.Sequential):
            module.gelu = nn.GELU()
    parity(exact, model, inputs(size))


def cubic(old: int, new: int) -> Tensor:
    """The matrix [new, old] of cubic convolution (Keys 1981, a = -0.75) at pixel centers, the edge repeated."""
    weights = torch.zeros(new, old)
    for row in range(new):
        place = (row + 0.5) * old / new - 0.5
        for column in range(math.floor(place) - 1, math.floor(place) + 3):
            x = abs(place - column)
            near, far = 1.25 * x**3 - 2.25 * x**2 + 1, -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
            weights[row, min(max(column, 0), old - 1)] += near if x <= 1 else far
    return weights


@pytest.mark.long
@pytest.mark.parametrize("grid", [3, 7, 8])
def test_images_of_another_size_get_interpolated_positions(grid: int, tmp_path: Path) -> None:
    model, other = original(Size(grid=4)), original(Size(grid=grid))
    table = model.visual.positional_embedding.detach()
    matrix = cubic(4, grid)
    square = torch.einsum("ri,ijd,cj->rcd", matrix, table[1:].reshape(4, 4, -1), matrix)
    positions = torch.cat([table[:1], square.flatten(0, 1)])
    other.load_state_dict(model.state_dict() | {"visual.positional_embedding": positions})
    encoder = Clip(checkpoint=str(_bare(model, tmp_path / "clip.pt")), image_size=8 * grid + 1, **GIVEN)
    assert encoder.preprocessing["crop"] == [8 * grid + 1] * 2
    given = inputs(Size(grid=grid))
    assert given.pixels is not None
    wider = given._replace(pixels=F.pad(given.pixels, (0, 1, 0, 1)))  # less than a patch more is not seen
    parity(encoder, other, wider)


@pytest.mark.long
def test_an_original_becomes_a_folder(shared: Path, tmp_path: Path) -> None:
    size = Size(vocabulary=700)
    file = _bare(original(size), tmp_path / "clip.pt")
    with pytest.raises(ConfigError, match="came without its tokenizer: give tokenizer = "):
        Clip(checkpoint=str(file), **GIVEN).save_pretrained(tmp_path / "none")
    tokenizer = str(shared / "golden" / "clip-bpe-vocab.txt.gz")
    encoder = Clip(checkpoint=str(file), tokenizer=tokenizer, image_size=48, text="{title}", text_len=9, **GIVEN)
    encoder.save_pretrained(tmp_path / "saved")
    again = Clip.from_pretrained(tmp_path / "saved")
    assert again.fingerprint() == encoder.fingerprint()
    items = [Item("1", {"title": "a red mug"}), Item("2", {"title": "z" * 50})]
    given = encoder.prepare(items)
    assert given.text_ids is not None
    assert given.text_ids.shape == (2, 9)
    assert given.text_ids.max(dim=1).values.tolist() == [699, 699]
    with torch.inference_mode():
        assert torch.equal(encoder(given)["text"], again(again.prepare(items))["text"])


@pytest.mark.long
def test_token_ids_are_those_of_the_original(shared: Path, tmp_path: Path) -> None:
    golden: dict[str, Any] = json.loads((shared / "golden" / "tokens.json").read_text(encoding="utf-8"))
    size = Size(vocabulary=49408, text_len=77, text_layers=1)
    (tmp_path / "bpe_simple_vocab_16e6.txt.gz").write_bytes((shared / "golden" / "clip-bpe-vocab.txt.gz").read_bytes())
    encoder = Clip(checkpoint=str(_bare(original(size), tmp_path / "clip.pt")), text="{title}", outputs="text", **GIVEN)
    for sentence, expected in zip(golden["sentences"], golden["clip"]["ids"], strict=True):
        ids = encoder.prepare([Item("1", {"title": sentence})]).text_ids
        assert ids is not None
        assert ids[0].tolist() + [0] * (77 - ids.shape[1]) == expected, sentence


def test_what_is_missing_is_listed_and_what_is_extra_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = original(Size()).state_dict()
    torch.save(state | {"decoder.weight": torch.ones(2)}, tmp_path / "more.pt")
    with caplog.at_level(logging.INFO):
        Clip(checkpoint=str(tmp_path / "more.pt"), **GIVEN)
    said = [record.getMessage() for record in caplog.records if "ignored" in record.getMessage()]
    assert said == ["more.pt: ignored 1 weights that CLIP does not use: decoder.weight"]
    lost = ("text_projection", "transformer.resblocks.1.mlp.c_fc.bias", "visual.ln_pre.weight", "logit_scale")
    torch.save({name: value for name, value in state.items() if name not in lost}, tmp_path / "less.pt")
    with pytest.raises(ConfigError, match="lacks 4 of the encoder's weights") as error:
        Clip(checkpoint=str(tmp_path / "less.pt"), **GIVEN)
    assert all(name in str(error.value) for name in lost)


@pytest.mark.long
@pytest.mark.parametrize(
    ("change", "given", "message"),
    [
        ({"visual.layer1.0.conv1.weight": torch.ones(2)}, {}, "is a ResNet CLIP"),
        ({}, {"patch": 16}, r"patch = 16, but that of checkpoint .* is 8"),
        ({}, {"heads": 5}, r"heads = 5 .* width of 64"),
        ({}, {"text_len": 13}, r"text_len = 13, but .* 12 positions"),
        ({}, {"image_size": 7}, "less than one patch"),
        ({}, {"tokenizer": "nowhere.txt.gz"}, r"no tokenizer nowhere\.txt\.gz"),
        ({"visual.positional_embedding": torch.ones(13, 64)}, {}, "not a square"),
        ({"visual.ln_pre.weight": torch.ones(3)}, {}, "do not fit together"),
    ],
)
def test_what_cannot_be_is_refused(
    change: dict[str, Tensor], given: dict[str, Any], message: str, tmp_path: Path
) -> None:
    torch.save(original(Size()).state_dict() | change, tmp_path / "clip.pt")
    with pytest.raises(ConfigError, match=message):
        Clip(checkpoint=str(tmp_path / "clip.pt"), **GIVEN | given)


def test_files_that_hold_no_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("not weights")
    torch.save({"epoch": 3}, tmp_path / "number.pt")
    torch.save(original(Size()), tmp_path / "object.pt")
    for name in ("text.pt", "number.pt", "object.pt"):
        with pytest.raises(ConfigError, match=rf"{name}.{{1,2}}(is damaged|holds)"):
            Clip(checkpoint=str(tmp_path / name))


def test_the_released_sizes_have_the_published_numbers_of_parameters() -> None:
    """ViT-B/16 as the design of this project and the model cards of the released weights state it."""
    with torch.device("meta"):
        model = Original(
            Size(
                patch=16, grid=14, width=768, layers=12, heads=12, text_width=512, text_layers=12, text_heads=8,
                text_len=77, vocabulary=49408, dim=512,
            )
        )  # fmt: skip
    assert f"{sum(parameter.numel() for parameter in model.parameters()):,}" == "149,620,737"
    assert "ViT-B/16 149,620,737" in Clip.about["parameters"]
