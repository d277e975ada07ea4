"""Tiny encoders of several blocks each, and a catalog for them with what is missing in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from torch import Tensor

from lmm4rec.core.types import Inputs
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import FUSED, Encoder
from lmm4rec.encoders.beit3 import Beit3
from lmm4rec.encoders.clip import Clip
from lmm4rec.encoders.dual import Dual
from lmm4rec.encoders.paired import Paired
from lmm4rec.encoders.sentence import Sentence
from lmm4rec.encoders.vision import Vision
from lmm4rec.encoders.vlmo import Vlmo

TEXT = "{title}"
WORDS = ["a red mug of steel", "the blue lamp", "a red lamp of oak for the small room", "", "one mug", "steel chair"]
NO_PICTURE, NO_WORDS = 2, 3  # rows


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


def _mpnet(transformers: object, root: Path) -> Sentence:
    """A sentence encoder whose blocks give tuples."""
    pytest.importorskip("sentence_transformers")
    if (root / "config.json").exists():
        return Sentence(checkpoint=str(root), text=TEXT)
    config = transformers.MPNetConfig(  # type: ignore[attr-defined]
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, vocab_size=30527,
    )  # fmt: skip
    transformers.MPNetModel(config).save_pretrained(root)  # type: ignore[attr-defined]
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted({word for text in WORDS for word in text.split()})]
    (root / "vocab.txt").write_text("\n".join(vocabulary))
    transformers.MPNetTokenizer(str(root / "vocab.txt")).save_pretrained(root)  # type: ignore[attr-defined]
    return Sentence(checkpoint=str(root), text=TEXT)


def _vit(transformers: object, root: Path) -> Vision:
    if (root / "config.json").exists():
        return Vision(checkpoint=str(root))
    config = transformers.ViTConfig(  # type: ignore[attr-defined]
        hidden_size=32, num_hidden_layers=3, num_attention_heads=2, intermediate_size=64, image_size=32, patch_size=8,
    )  # fmt: skip
    transformers.ViTModel(config).save_pretrained(root)  # type: ignore[attr-defined]
    transformers.ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(root)  # type: ignore[attr-defined]
    return Vision(checkpoint=str(root))


def _clip(root: Path) -> Clip:
    if not (root / "config.json").exists():
        Clip.write_tiny(root, WORDS, image_size=32, dim=32, layers=3, vocabulary=400)
    return Clip(checkpoint=str(root), text=TEXT)


def _dual(root: Path) -> Dual:
    if not (root / "config.json").exists():
        Dual.write_tiny(root, WORDS, image_size=32, dim=32, layers=3, vocabulary=100)
    return Dual(checkpoint=str(root), text=TEXT)


def _unified(kind: type[Vlmo] | type[Beit3], root: Path, outputs: str) -> Encoder:
    if not (root / "model.safetensors").exists():
        kind.write_tiny(root, WORDS)
    return kind(checkpoint=str(root), text=TEXT, outputs=outputs)  # type: ignore[arg-type]


ENCODERS = ("beit3", "clip", "dual", "paired", "sentence", "vision", "vlmo")


def build(name: str, root: Path) -> Encoder:
    """The encoder of that name in evaluation mode, its random weights always the same.

    Its checkpoint is written into a folder of its name in `root`, where it is not there yet.
    """
    root = root / name
    transformers = pytest.importorskip("transformers")
    whole = "image+text+fused"
    make: dict[str, Callable[[], Encoder]] = {
        "beit3": lambda: _unified(Beit3, root, whole),
        "clip": lambda: _clip(root),
        "dual": lambda: _dual(root),
        "paired": lambda: Paired(image=_vit(transformers, root / "image"), text=_mpnet(transformers, root / "text")),
        "sentence": lambda: _mpnet(transformers, root),
        "vision": lambda: _vit(transformers, root),
        "vlmo": lambda: _unified(Vlmo, root, whole),
    }
    for folder in ("image", "text"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = make[name]()
    return encoder.eval()


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


__all__ = ["ENCODERS", "FUSED", "NO_PICTURE", "NO_WORDS", "build", "catalog", "complete_inputs", "whole_vectors"]
