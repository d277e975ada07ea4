"""A tiny encoder of images and words with noise of every kind, and items for it: no library, no files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.errors import ImageError
from lmm4rec.core.types import Inputs, Item
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder, stack_pixels
from lmm4rec.nn.transformers.beit3.network import Beit3Model, Beit3Shape
from lmm4rec.nn.transformers.checkpoints import draw_weights

SIDE = 8


@dataclass(frozen=True)
class Dots:
    """An image of random dots; one of a negative seed cannot be read."""

    seed: int

    def open(self) -> Image.Image:
        if self.seed < 0:
            raise ImageError("damaged")
        dots = np.random.default_rng(self.seed).integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
        return Image.fromarray(dots)

    def digest(self) -> str:
        return str(self.seed)


def toy_items(count: int) -> list[Item]:
    """Items with titles of two to five words."""
    words = [[f"{(row * 7 + step * 3) % 29}" for step in range(2 + row % 4)] for row in range(count)]
    return [Item(f"i{row}", {"title": " ".join(some)}, Dots(row)) for row, some in enumerate(words)]


def make_toy_catalog(count: int) -> Catalog:
    """A catalog of `toy_items`, and one more item with the content of the fourth."""
    items = toy_items(count)
    items.append(replace(items[3], id="again"))
    fields = pl.DataFrame({"title": [item.fields["title"] for item in items]})
    rows = np.arange(len(items))
    images = tuple(item.image for item in items)
    return Catalog(Vocabulary(item.id for item in items), fields, images, source_rows=rows, source_size=len(items))


class Toy(Encoder):
    """A BEiT-3 of one width-16 block, with dropout on its vectors."""

    def __init__(self, *, dropout: float = 0.0, drop_path: float = 0.0, layers: int = 2, seed: int = 0) -> None:
        super().__init__()
        shape = Beit3Shape(
            dim=16, layers=layers, heads=2, ffn=32, projection=8, vocabulary=40, image_size=SIDE, patch=4, text_rows=16
        )
        with torch.device("meta"):
            self.model = Beit3Model(shape, drop_path=drop_path)
        draw_weights(self.model, torch.Generator().manual_seed(seed))
        self.dropout = nn.Dropout(dropout)
        self.dims, self.text = {"image": 8, "text": 8}, "{title}"

    @property
    def logit_scale(self) -> Tensor:
        return self.model.logit_scale

    def prepare(self, items: Sequence[Item]) -> Inputs:
        pixels, has_image = stack_pixels(items, lambda one: torch.tensor(np.array(one)).permute(2, 0, 1) / 127.5 - 1)
        texts = [[int(word) + 5 for word in self.item_text(item).split()] for item in items]
        rows = [torch.tensor([3, *ids, 4] if ids else []).long() for ids in texts]
        ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        return Inputs(pixels, ids, ids > 0, has_image)

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        image = self.model.image_head(self.model.last_states(inputs, "image")[:, 0])
        text = self.model.text_head(self.model.last_states(inputs, "text")[:, 0])
        return {
            modality: F.normalize(self.dropout(rows), dim=1) for modality, rows in (("image", image), ("text", text))
        }

    def settings(self) -> dict[str, object]:
        return {"text": self.text}


LARGEST = math.log(100)
