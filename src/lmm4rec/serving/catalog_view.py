"""The items that a bundle can give: those of the catalog, those that were added, less those that were removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lmm4rec.core.errors import DataError
from lmm4rec.core.types import Item
from lmm4rec.core.vocabulary import Vocabulary


class Entry(NamedTuple):
    """What is shown of an item."""

    id: str
    title: str
    fields: Mapping[str, str]
    thumbnail: bytes | None


@dataclass(frozen=True)
class Shelf:
    """Items by row, never renumbered; a change gives a new shelf, so that who reads the old one is not disturbed.

    Rows are those of the item vectors: first the catalog's, then what was added, in order. A removed item keeps its row
    and gives up its id.
    """

    catalog: Vocabulary
    titles: Sequence[str]
    fields: pl.DataFrame
    thumbnails: Mapping[int, bytes]  # by row of the catalog
    added: tuple[Entry, ...] = ()
    removed: frozenset[int] = frozenset()
    rows_of_added: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many rows there are, those of removed items included."""
        return len(self.catalog) + len(self.added)

    def row(self, id_: object) -> int:
        """The row of an item that is there.

        Raises:
            DataError: it is unknown or was removed; the nearest known id is offered.
        """
        if (row := self.rows_of_added.get(str(id_))) is not None:
            return row
        row = self.catalog.row(id_)
        if row in self.removed:
            raise DataError(f"item '{id_}' was removed")
        return row

    def rows(self, ids: Iterable[object]) -> Int64[np.ndarray, " ids"]:
        """The rows of several items."""
        return np.array([self.row(id_) for id_ in ids], dtype=np.int64)

    def entry(self, row: int) -> Entry:
        """What is shown of the item in a row, also of a removed one."""
        if row >= len(self.catalog):
            return self.added[row - len(self.catalog)]
        fields = self.fields.row(row, named=True) if self.fields.width else {}
        return Entry(self.catalog[row], self.titles[row], fields, self.thumbnails.get(row))

    def catalog_items(self, rows: Iterable[int] | None = None) -> list[Item]:
        """Items of the catalog (all, or these rows) with their words, without images."""
        entries = (self.entry(row) for row in (range(len(self.catalog)) if rows is None else rows))
        return [Item(entry.id, entry.fields) for entry in entries]

    def title(self, row: int) -> str:
        """The title of the item in a row."""
        return self.titles[row] if row < len(self.catalog) else self.added[row - len(self.catalog)].title

    def id(self, row: int) -> str:
        """The id of the item in a row."""
        return self.catalog[row] if row < len(self.catalog) else self.added[row - len(self.catalog)].id

    @cached_property
    def ids(self) -> Vocabulary:
        """The ids of all items that are there, in the order of their rows."""
        return LiveIds(self) if self.added or self.removed else self.catalog

    def has(self, id_: object) -> bool:
        """Whether an item of this id is there."""
        if str(id_) in self.rows_of_added:
            return True
        return id_ in self.catalog and self.catalog.row(id_) not in self.removed

    @cached_property
    def is_there(self) -> Bool[Tensor, " rows"]:
        """Which rows are not removed."""
        there = torch.ones(len(self), dtype=torch.bool)
        there[list(self.removed)] = False
        return there

    def chosen(self, only: Iterable[object] | None) -> Bool[Tensor, " rows"] | None:
        """Which rows may be given, where these are not all: those that are there and, with `only`, among them."""
        if only is None:
            return self.is_there if self.removed else None
        chosen = torch.zeros(len(self), dtype=torch.bool)
        chosen[torch.from_numpy(self.rows(only))] = True
        return chosen

    def with_added(self, entries: Sequence[Entry]) -> Shelf:
        """The shelf with more items.

        Raises:
            DataError: an id is taken, or given twice.
        """
        rows = dict(self.rows_of_added)
        for row, entry in enumerate(entries, start=len(self)):
            if entry.id in rows or self.has(entry.id):
                raise DataError(f"item '{entry.id}' is there already; remove it first, or give the new one another id")
            rows[entry.id] = row
        return replace(self, added=(*self.added, *entries), rows_of_added=rows)

    def without(self, ids: Iterable[object]) -> Shelf:
        """The shelf without some of its items.

        Raises:
            DataError: an item is not there.
        """
        gone = {self.row(id_) for id_ in ids}
        rows = {id_: row for id_, row in self.rows_of_added.items() if row not in gone}
        return replace(self, removed=self.removed | gone, rows_of_added=rows)


class LiveIds(Vocabulary):
    """The ids of what is on a shelf; they are only listed where somebody goes through them."""

    def __init__(self, shelf: Shelf) -> None:
        self.kind, self._shelf = shelf.catalog.kind, shelf

    def __len__(self) -> int:
        return len(self._shelf) - len(self._shelf.removed)

    def __contains__(self, id_: object) -> bool:
        return self._shelf.has(id_)

    @cached_property
    def _ids(self) -> list[str]:  # type: ignore[override]
        shelf = self._shelf
        return [shelf.id(row) for row in range(len(shelf)) if row not in shelf.removed]

    @cached_property
    def _rows(self) -> dict[str, int]:  # type: ignore[override]
        return {id_: row for row, id_ in enumerate(self._ids)}
