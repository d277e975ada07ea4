"""A dual-stream encoder whose vectors can be computed by hand, and a catalog for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from PIL import Image
from torch import Tensor, nn

from lmm4rec.core.errors import ImageError
from lmm4rec.core.types import Inputs, Item
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder, stack_pixels


@dataclass(frozen=True)
class Gray:
    """An image of one gray level; a negative one cannot be read."""

    level: int

    def open(self) -> Image.Image:
        if self.level < 0:
            raise ImageError("damaged")
        return Image.new("RGB", (2, 2), (self.level,) * 3)

    def digest(self) -> str:
        return str(self.level)


class Towers(Encoder):
    """image = (level, 1) * weight, text = (sum of code points, 1) * weight; keeps what came through each tower."""

    separable = True

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.dims = {"image": 2, "text": 2}
        self.text = "{title}"
        self.weight = nn.Parameter(torch.tensor(weight))
        self.levels: list[float] = []
        self.texts: list[list[int]] = []  # the lengths of the texts of each batch

    def prepare(self, items: Sequence[Item]) -> Inputs:
        inputs = Inputs()
        if "image" in self.dims:
            pixels, has_image = stack_pixels(items, lambda one: torch.tensor(np.array(one)).permute(2, 0, 1).float())
            inputs = inputs._replace(pixels=pixels, has_image=has_image)
        if "text" in self.dims:
            codes = [torch.tensor([ord(letter) for letter in self.item_text(item)] or [0]) for item in items]
            ids = nn.utils.rnn.pad_sequence(codes, batch_first=True)
            inputs = inputs._replace(text_ids=ids, text_mask=ids > 0)
        return inputs

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        vectors = {}
        if "image" in self.dims:
            assert inputs.pixels is not None
            level = inputs.pixels.mean(dim=(1, 2, 3))
            self.levels += level.tolist()
            vectors["image"] = torch.stack([level, torch.ones_like(level)], dim=1) * self.weight
        if "text" in self.dims:
            assert inputs.text_ids is not None
            assert inputs.text_mask is not None
            total = inputs.text_ids.sum(dim=1).float()
            self.texts.append(inputs.text_mask.sum(dim=1).tolist())
            vectors["text"] = torch.stack([total, torch.ones_like(total)], dim=1) * self.weight
        return vectors

    def settings(self) -> dict[str, object]:
        return {"text": self.text}


class Wide(Towers):
    """The text's length through a product of 1 x 1 and 1 x 1000: 4 + 4,000 bytes an item are read and written."""

    def __init__(self) -> None:
        super().__init__()
        self.dims = {"text": 1000}
        self.wide = nn.Linear(1, 1000, bias=False)
        nn.init.ones_(self.wide.weight)

    def forward(self, inputs: Inputs) -> dict[str, Tensor]:
        assert inputs.text_mask is not None
        self.texts.append(inputs.text_mask.sum(dim=1).tolist())
        return {"text": self.wide(inputs.text_mask.sum(dim=1, keepdim=True).float())}


def catalog_of(levels: Sequence[int | None], titles: Sequence[str]) -> Catalog:
    return Catalog(
        ids=Vocabulary(f"i{row}" for row in range(len(levels))),
        fields=pl.DataFrame({"title": titles}, schema={"title": pl.String}),
        images=tuple(None if level is None else Gray(level) for level in levels),
        source_rows=np.arange(len(levels)),
        source_size=len(levels),
    )
