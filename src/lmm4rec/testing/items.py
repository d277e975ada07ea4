"""Five complete items and three incomplete ones, which the contract tests give to encoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from PIL import Image

from lmm4rec.core.errors import ImageError
from lmm4rec.core.types import Item
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog


@dataclass(frozen=True)
class NoiseImage:
    """An image drawn from a seed; with a negative one, an image that cannot be read."""

    seed: int

    def open(self) -> Image.Image:
        """The image."""
        if self.seed < 0:
            raise ImageError("this image cannot be read")
        shape = (40 + self.seed, 50, 3)
        return Image.fromarray(np.random.default_rng(self.seed).integers(0, 255, shape, dtype=np.uint8))

    def digest(self) -> str:
        """The seed."""
        return str(self.seed)


TEXTS = (
    "a red mug of steel", "the blue lamp", "a red lamp of oak", "one mug, blue and small", "the steel chair of oak",
)  # fmt: skip
ITEMS = [
    Item(str(row), {"title": text, "description": f"for the {text}"}, NoiseImage(row)) for row, text in enumerate(TEXTS)
]
WITHOUT_IMAGE = Item("without image", ITEMS[0].fields)
UNREADABLE_IMAGE = Item("unreadable image", ITEMS[0].fields, NoiseImage(-1))
WITHOUT_TEXT = Item("without text", {"title": "", "description": " "}, NoiseImage(1))
INCOMPLETE = (WITHOUT_IMAGE, UNREADABLE_IMAGE, WITHOUT_TEXT)


def catalog_of(items: Sequence[Item]) -> Catalog:
    """A catalog of items."""
    schema = {"title": pl.String, "description": pl.String}
    fields = pl.DataFrame([dict(item.fields) for item in items], schema=schema)
    ids = Vocabulary(item.id for item in items)
    return Catalog(ids, fields, tuple(item.image for item in items), np.arange(len(items)), len(items))
