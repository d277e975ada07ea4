"""Encoders whose checkpoint leaves something open: tokenizers, heads, activations, prompts, names of wrappers."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import official
from encoders.test_clip_original import Size, original
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Item
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoders.sentence import Sentence
from lmm4rec.nn.transformers.checkpoint_sizes import head_count
from lmm4rec.nn.transformers.checkpoints import read_state

transformers = pytest.importorskip("transformers")
TEXTS = [f"red mug number {number} of ceramic and wood" for number in range(40)] + ["blue jeans for men"]


@pytest.mark.long
@pytest.mark.parametrize("lost", [("tokenizer.json", "tokenizer_config.json"), ("tokenizer.json",)])
def test_a_clip_without_its_tokenizer_is_refused(lost: tuple[str, ...], tmp_path: Path) -> None:
    Clip.write_tiny(tmp_path, TEXTS)
    for name in lost:
        (tmp_path / name).unlink()
    with pytest.raises(ConfigError, match="its tokenizer is missing"):
        Clip(checkpoint=str(tmp_path))


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """It has ids for which the model has no row."""
    for name, vocabulary in (("small", 700), ("large", 1100)):
        Clip.write_tiny(
            tmp_path / name, TEXTS + [chr(97 + n % 26) * (n % 7 + 1) for n in range(300)], vocabulary=vocabulary
        )
    for file in (tmp_path / "large").glob("tokenizer*"):
        shutil.copy(file, tmp_path / "small" / file.name)
    encoder = Clip(checkpoint=str(tmp_path / "small"))
    with pytest.raises(ConfigError, match="that of another model"):
        encoder(
            encoder.prepare([Item("0", {"title": "red mug", "description": ""})])._replace(
                pixels=torch.zeros(1, 3, 64, 64)
            )
        )


@pytest.mark.long
def test_heads_and_activation_of_unknown_shapes_are_asked_for(tmp_path: Path) -> None:
    size = Size(patch=2, grid=2, width=1280, heads=16, text_width=64, layers=1, text_layers=1)
    file = str(tmp_path / "open_clip_vit_h.pt")
    torch.save(
        {"epoch": 3, "state_dict": {f"module.{name}": x for name, x in original(size).state_dict().items()}}, file
    )
    with pytest.raises(ConfigError, match=r"give heads and activation: .* 1280 wide .* heads = 16"):
        Clip(checkpoint=file)
    with pytest.raises(ConfigError, match="give activation"):
        Clip(checkpoint=file, heads=16)
    encoder = Clip(checkpoint=file, heads=16, activation="gelu")
    vision = encoder.model.config.vision_config
    assert (vision.num_attention_heads, vision.hidden_act) == (16, "gelu")


def test_heads_are_known_for_released_widths_only() -> None:
    assert [head_count(dim, None) for dim in (544, 768, 1024)] == [16, 12, 16]
    for dim in (64, 512, 1280):
        with pytest.raises(ConfigError, match="give heads"):
            head_count(dim, None)
    assert head_count(1280, 16) == 16


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "compiled": lambda state: {f"_orig_mod.{name}": x for name, x in state.items()},
    "compiled and parallel": lambda state: {"state_dict": {f"module._orig_mod.{name}": x for name, x in state.items()}},
    "parallel and compiled": lambda state: {
        "model": {"module": {f"_orig_mod.module.{n}": x for n, x in state.items()}}
    },
    "of a framework": lambda state: {"state_dict": {f"model.{name}": x for name, x in state.items()}, "epoch": 1},
    "a compiled part": lambda state: {name.replace("A.", "A._orig_mod.", 1): x for name, x in state.items()},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_names_of_wrappers_are_taken_off(wrap: Callable[[dict[str, Tensor]], Any], tmp_path: Path) -> None:
    shapes = official.beit3_shapes(dim=4, layers=1, ffn=8, side=2, patch=2, vocabulary=5, rows=6)
    state = {name: torch.zeros(shape) for name, shape in shapes.items()}
    torch.save(wrap(state), tmp_path / "wrapped.pth")
    assert read_state(tmp_path / "wrapped.pth").keys() == state.keys()


def test_two_models_in_one_file_are_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.zeros(1), "module.x": torch.ones(1)}, tmp_path / "two.pth")
    with pytest.raises(ConfigError, match="holds several models"):
        read_state(tmp_path / "two.pth")


ITEMS = [Item("0", {"title": "red ceramic mug"}), Item("1", {"title": "blue jeans for men"}), Item("2", {"title": ""})]


def vectors(encoder: Sentence) -> Tensor:
    encoder.eval()
    with torch.inference_mode():
        return encoder(encoder.prepare(ITEMS))["text"]


@pytest.mark.long
@pytest.mark.parametrize("include_prompt", [True, False])
def test_the_default_prompt_of_a_sentence_model_comes_before_each_text(include_prompt: bool, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    Sentence.write_tiny(tmp_path / "bert", [*TEXTS, "passage: query:"])
    model = library.SentenceTransformer(str(tmp_path / "bert"), device="cpu")
    model[1].include_prompt = include_prompt
    model.prompts, model.default_prompt_name = {"query": "query: ", "document": "passage: "}, "document"
    model.save(str(tmp_path / "model"))
    saved = library.SentenceTransformer(str(tmp_path / "model"), device="cpu")
    expected = torch.tensor(saved.encode([item.fields["title"] for item in ITEMS[:2]], normalize_embeddings=True))
    encoder = Sentence(checkpoint=str(tmp_path / "model"), text="{title}")
    torch.testing.assert_close(vectors(encoder)[:2], expected, atol=1e-5, rtol=0)
    none = Sentence(checkpoint=str(tmp_path / "model"), text="{title}", prompt="")
    assert (vectors(none)[:2] - expected).abs().max() > 1e-3
    assert none.fingerprint() != encoder.fingerprint()
    encoder.save_pretrained(tmp_path / "again")
    assert Sentence.from_pretrained(tmp_path / "again").prompt == "passage: "


def test_a_static_sentence_model_gives_the_vectors_of_its_library(tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    Sentence.write_tiny(tmp_path / "bert", TEXTS)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "bert")
    table = library.sentence_transformer.modules.StaticEmbedding(tokenizer, embedding_dim=6)
    library.SentenceTransformer(modules=[table], device="cpu").save(str(tmp_path / "static"))
    saved = library.SentenceTransformer(str(tmp_path / "static"), device="cpu")
    expected = torch.tensor(saved.encode([item.fields["title"] for item in ITEMS[:2]], normalize_embeddings=True))
    found = vectors(Sentence(checkpoint=str(tmp_path / "static"), text="{title}"))
    torch.testing.assert_close(found[:2], expected, atol=1e-5, rtol=0)
    assert not found[2].any()
