"""The catalog: ids, texts, images and shipped features of the items, row by row."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64

from lmm4rec.core.errors import DataError
from lmm4rec.core.types import Item, ItemImage, Modality
from lmm4rec.core.vocabulary import Vocabulary

_LONGEST_TITLE = 300  # where it is shown; fields have all of it
_LINES = re.compile(r"[\t\n\r\v\f]+")
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]")  # of terminals


@dataclass(frozen=True)
class Catalog(Sequence[Item]):
    """All items of a data set. Row i here is row i of every feature and of every item matrix.

    `source_rows[i]` is the row of item i in the file that it was read from (of `source_size` rows), so that feature
    files for that file stay aligned after filtering.
    """

    ids: Vocabulary
    fields: pl.DataFrame  # text columns (title, description, ...), an empty string where there is none
    images: tuple[ItemImage | None, ...]
    source_rows: Int64[np.ndarray, " items"]
    source_size: int
    shipped: Mapping[Modality, Path] = field(default_factory=dict)  # feature files that came with the data
    image_urls: tuple[str, ...] = ()  # the URL of each image, "" where it is unknown; empty: no image has one
    attributes: pl.DataFrame = field(default_factory=pl.DataFrame)  # other columns (price, ...), to filter by

    def __post_init__(self) -> None:
        sizes = {len(self.ids), len(self.images), len(self.source_rows)}
        if self.fields.width:
            sizes.add(self.fields.height)
        if self.image_urls:
            sizes.add(len(self.image_urls))
        if self.attributes.width:
            sizes.add(self.attributes.height)
        if len(sizes) > 1:
            raise DataError(
                f"a catalog's columns differ in length: {len(self.ids)} ids, {self.fields.height} texts, "
                f"{len(self.images)} images, {len(self.source_rows)} source rows"
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        texts = ", ".join(self.fields.columns) or "no texts"
        return f"Catalog({len(self):,} items: {texts}; {self.has_image.sum():,} with an image)"

    def __getitem__(self, row):  # type: ignore[no-untyped-def]
        """The item of a row, or the items of a slice of rows."""
        if isinstance(row, slice):
            rows = range(*row.indices(len(self)))
            texts = self.fields[row].iter_rows(named=True) if self.fields.width else ({} for _ in rows)
            return [Item(self.ids[i], text, self.images[i]) for i, text in zip(rows, texts, strict=True)]
        id_, image = self.ids[row], self.images[row]  # first, for the IndexError that ends an iteration
        return Item(id_, self.fields.row(row, named=True) if self.fields.width else {}, image)

    def items(self, rows: Iterable[int]) -> list[Item]:
        """The items of the given rows."""
        return [self[int(row)] for row in rows]

    @cached_property
    def has_image(self) -> Bool[np.ndarray, " items"]:
        """Whether each item names an image (which may still turn out broken)."""
        return np.array([image is not None for image in self.images], dtype=bool)

    def title(self, row: int) -> str:
        """The item's title, at most 300 characters in one line, or else its id."""
        title = str(self.fields["title"][row]) if "title" in self.fields.columns else ""
        return shown_title(title, self.ids[row])

    def select(self, rows: Int64[np.ndarray, " chosen"]) -> Catalog:
        """The catalog of the given rows, renumbered in the given order."""
        return replace(
            self,
            ids=self.ids.select(rows.tolist()),
            fields=self.fields[rows.tolist()] if self.fields.width else self.fields,
            images=tuple(self.images[row] for row in rows),
            source_rows=self.source_rows[rows],
            image_urls=tuple(self.image_urls[row] for row in rows) if self.image_urls else (),
            attributes=self.attributes[rows.tolist()] if self.attributes.width else self.attributes,
        )


def shown_title(title: str, id_: str) -> str:
    """A title of at most 300 characters in one line, or else the id."""
    if len(title) > _LONGEST_TITLE:
        title = title[: _LONGEST_TITLE - 1] + "…"
    return _CONTROLS.sub("", _LINES.sub(" ", title)) or id_
