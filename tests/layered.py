"""Tiny encoders of several blocks each, and a catalog for them with what is missing in it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import Tensor

from lmm4rec.core.registry import ENCODERS as REGISTRY
from lmm4rec.core.registry import hyper_parameters
from lmm4rec.core.types import Inputs
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.audio import Audio
from lmm4rec.encoders.base import FUSED, Encoder, is_encoder
from lmm4rec.encoders.sentence import Sentence
from lmm4rec.encoders.vision import Vision
from lmm4rec.testing.sounds import write_sound

TEXT = "{title}"
WORDS = ["a red mug of steel", "the blue lamp", "a red lamp of oak for the small room", "", "one mug", "steel chair"]
NO_PICTURE, NO_WORDS = 2, 3  # rows
SIZES = {"image_size": 32, "dim": 32, "layers": 3, "vocabulary": 400}  # of checkpoints that can be written in any size


@dataclass(frozen=True)
class Noise:
    """An image drawn from a seed."""

    seed: int

    def open(self) -> Image.Image:
        shape = (40 + self.seed, 50, 3)
        return Image.fromarray(np.random.default_rng(self.seed).integers(0, 255, shape, dtype=np.uint8))

    def digest(self) -> str:
        return str(self.seed)


def catalog() -> Catalog:
    images = tuple(None if row == NO_PICTURE else Noise(row) for row in range(len(WORDS)))
    rows = len(WORDS)
    return Catalog(
        Vocabulary(f"i{row}" for row in range(rows)), pl.DataFrame({"title": WORDS}), images, np.arange(rows), rows
    )


def _components(declares: Callable[[type[Encoder]], bool]) -> list[str]:
    return [name for name in REGISTRY.names() if declares(REGISTRY.get(name))]


def _widest(component: type[Encoder]) -> str:
    """The choice of `outputs` that names the most modalities; empty where there is no choice."""
    outputs = hyper_parameters(component).get("outputs")
    return max(get_args(outputs.annotation), key=len) if outputs else ""


def _has_towers(component: type[Encoder]) -> bool:
    return component.towers is not Encoder.towers


ENCODERS = _components(_has_towers)
SEVERAL_MODALITIES = _components(
    lambda one: _has_towers(one) and (one.separable or one.with_modalities is not Encoder.with_modalities)
)
FUSING = _components(lambda one: _has_towers(one) and FUSED in _widest(one).split("+"))


def build(name: str, root: Path) -> Encoder:
    """The encoder of that name in evaluation mode, its random weights always the same.

    Its checkpoint is written into a folder of its name in `root`, where it is not there yet. It gives all modalities
    that it can give.
    """
    pytest.importorskip("transformers")
    component: type[Encoder] = REGISTRY.get(name)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return _build(component, root / name).eval()


def _build(component: type[Encoder], folder: Path) -> Encoder:
    keys, options = hyper_parameters(component), {}
    if component.has_tiny():
        if not folder.exists():
            sizes = inspect.signature(component.write_tiny).parameters
            component.write_tiny(folder, WORDS, **{size: value for size, value in SIZES.items() if size in sizes})
        options["checkpoint"] = str(folder)
    if "text" in keys and not is_encoder(keys["text"].annotation):
        options["text"] = TEXT
    if outputs := _widest(component):
        options["outputs"] = outputs
    if "sounds" in keys:
        options["sounds"] = str(_sounds(folder / "sounds"))
    sides = {"image": lambda: _build(Vision, folder / "image"), "text": lambda: _mpnet(folder / "text")}
    sides["audio"] = lambda: _build(Audio, folder / "audio")
    inner = {side: make() for side, make in sides.items() if side in keys and is_encoder(keys[side].annotation)}
    return component(**options, **inner)


def _sounds(folder: Path) -> Path:
    """The folder of a sound file of half a second or more for each item but those without an image."""
    if not folder.exists():
        folder.mkdir()
        for row in range(len(WORDS)):
            if row != NO_PICTURE:
                write_sound(folder / f"i{row}.wav", row, samples=4000 + 1000 * row)
    return folder


def _mpnet(root: Path) -> Sentence:
    """A sentence encoder whose blocks return tuples, which those of its own tiny checkpoint do not."""
    pytest.importorskip("sentence_transformers")
    transformers = pytest.importorskip("transformers")
    if not root.exists():
        config = transformers.MPNetConfig(
            hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, vocab_size=30527,
        )  # fmt: skip
        transformers.MPNetModel(config).save_pretrained(root)
        vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
        vocabulary += sorted({word for text in WORDS for word in text.split()})
        (root / "vocab.txt").write_text("\n".join(vocabulary))
        transformers.MPNetTokenizer(str(root / "vocab.txt")).save_pretrained(root)
    return Sentence(checkpoint=str(root), text=TEXT)


def whole_vectors(encoder: Encoder, rows: Sequence[int]) -> dict[str, Tensor]:
    """The vectors of catalog rows by the encoder's own forward pass, zeros where the modality is missing."""
    items = catalog()
    inputs = encoder.prepare([items[row] for row in rows])
    present = encoder.present(inputs)
    return {modality: torch.where(present[modality][:, None], x, 0.0) for modality, x in encoder(inputs).items()}


def complete_inputs(encoder: Encoder) -> Inputs:
    """The inputs of the catalog's items that lack nothing."""
    items = catalog()
    return encoder.prepare([items[row] for row in range(len(items)) if row not in (NO_PICTURE, NO_WORDS)])


__all__ = [
    "ENCODERS", "FUSED", "FUSING", "NO_PICTURE", "NO_WORDS", "SEVERAL_MODALITIES", "build", "catalog",
    "complete_inputs", "whole_vectors",
]  # fmt: skip
