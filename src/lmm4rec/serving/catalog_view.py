"""The view of the items that a bundle recommends: those of the catalog and the added ones, less the removed ones."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from lmm4rec.core.errors import DataError
from lmm4rec.core.types import Item
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.serving.catalog_filters import Filter, nothing_passes, require_column

_MOST_MASKS = 64  # that are kept: those of the filters that were used last


class CatalogEntry(NamedTuple):
    """The id, the texts and the thumbnail of an item."""

    id: str
    title: str
    fields: Mapping[str, str]
    thumbnail: bytes | None


@dataclass(frozen=True)
class CatalogView:
    """Items by row, immutable: a change returns a new view, and readers of the old one are not disturbed.

    Rows are those of the item vectors: first the catalog's, then those of the added items, in order. They are never
    renumbered: a removed item keeps its row, and its id is free again.
    """

    catalog: Vocabulary
    titles: Sequence[str]
    fields: pl.DataFrame
    thumbnails: Mapping[int, bytes]  # by row of the catalog
    added: tuple[CatalogEntry, ...] = ()
    removed: frozenset[int] = frozenset()
    rows_of_added: Mapping[str, int] = field(default_factory=dict)
    attributes: pl.DataFrame = field(default_factory=pl.DataFrame)  # other columns of the catalog's items

    def __len__(self) -> int:
        """The number of rows, those of removed items included."""
        return len(self.catalog) + len(self.added)

    def row(self, id_: object) -> int:
        """The row of an item.

        Raises:
            DataError: it is unknown (the message names the nearest known id) or was removed.
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

    def entry(self, row: int) -> CatalogEntry:
        """The entry of the item in a row, also of a removed one."""
        if row >= len(self.catalog):
            return self.added[row - len(self.catalog)]
        fields = self.fields.row(row, named=True) if self.fields.width else {}
        return CatalogEntry(self.catalog[row], self.titles[row], fields, self.thumbnails.get(row))

    def catalog_items(self, rows: Iterable[int] | None = None) -> list[Item]:
        """Items of the catalog (all, or these rows) with their texts, without images."""
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
        """The ids of all items that are not removed, in the order of their rows."""
        return PresentIds(self) if self.added or self.removed else self.catalog

    def has(self, id_: object) -> bool:
        """Whether there is an item of this id that is not removed."""
        if str(id_) in self.rows_of_added:
            return True
        return id_ in self.catalog and self.catalog.row(id_) not in self.removed

    @cached_property
    def present(self) -> Bool[Tensor, " rows"]:
        """A mask of the rows that are not removed."""
        present = torch.ones(len(self), dtype=torch.bool)
        present[list(self.removed)] = False
        return present

    @cached_property
    def columns(self) -> pl.DataFrame:
        """All columns by which items can be filtered, a row for each item; added items have no attributes."""
        known = pl.DataFrame({"title": pl.Series(self.titles, dtype=pl.String)}).with_columns(self.fields.get_columns())
        known = known.with_columns(self.attributes.get_columns())
        if not self.added:
            return known
        added = [{"title": entry.title, **entry.fields} for entry in self.added]
        schema = {name: pl.String for entry in added for name in entry if name not in self.attributes.columns}
        return pl.concat([known, pl.DataFrame(added, schema=schema)], how="diagonal")

    def table(self, names: Sequence[str] | None) -> pl.DataFrame:
        """A row for each item that is not removed: its id as "item", and the columns of these names (None: all).

        Raises:
            ConfigError: there is no such column.
        """
        names = self.columns.columns if names is None else names
        chosen = [self.columns[require_column(name, self.columns)] for name in dict.fromkeys(names) if name != "item"]
        ids = pl.Series("item", [self.id(row) for row in range(len(self))], dtype=pl.String)
        return pl.DataFrame([ids, *chosen]).filter(pl.Series(self.present.numpy()))

    def candidates(
        self, only: Iterable[object] | None, where: Sequence[str | Filter] = ()
    ) -> Bool[Tensor, " rows"] | None:
        """The rows that may be recommended: those of `only`, or else those that are not removed; None for all.

        Raises:
            ConfigError: a filter of `where` is wrong.
            DataError: an item of `only` is unknown, or no item passes the filters.
        """
        if only is None:
            candidates = self.present if self.removed else None
        else:
            candidates = torch.zeros(len(self), dtype=torch.bool)
            candidates[torch.from_numpy(self.rows(only))] = True
        if not where:
            return candidates
        filters = [one if isinstance(one, Filter) else Filter.parse(one) for one in where]
        masks = [self.passing(one) for one in filters]
        passing = reduce(torch.logical_and, masks)
        if not passing.any():
            raise nothing_passes(filters, [int(mask.sum()) for mask in masks], self.columns)
        return passing if candidates is None else passing & candidates

    def passing(self, one: Filter) -> Bool[Tensor, " rows"]:
        """A mask of the rows that pass a filter.

        Raises:
            ConfigError: the filter is wrong.
        """
        return self._mask(one, lambda: torch.from_numpy(one.passing(self.columns).to_numpy().copy()))

    def marked(self, ids: frozenset[str]) -> Bool[Tensor, " rows"]:
        """A mask of the rows of these items; unknown ids are skipped."""

        def marked() -> Tensor:
            mask = torch.zeros(len(self), dtype=torch.bool)
            mask[[self.row(id_) for id_ in ids if self.has(id_)]] = True
            return mask

        return self._mask(ids, marked)

    def values(self, name: str) -> tuple[Int64[np.ndarray, " rows"], pl.Series]:
        """A number for each row that is that of the rows with the same value (0: an empty cell), and the values.

        Raises:
            ConfigError: there is no such column.
        """
        if name not in self._values:
            texts = self.columns[require_column(name, self.columns)].cast(pl.String).fill_null("")
            numbers = texts.rank("dense").to_numpy().astype(np.int64)
            self._values[name] = np.where((texts == "").to_numpy(), 0, numbers), texts
        return self._values[name]

    def _mask(self, key: Hashable, compute: Callable[[], Tensor]) -> Tensor:
        mask = self._masks.pop(key, None)
        mask = compute() if mask is None else mask
        self._masks[key] = mask
        for oldest in list(self._masks)[:-_MOST_MASKS]:
            self._masks.pop(oldest, None)
        return mask

    @cached_property
    def _masks(self) -> dict[Hashable, Tensor]:
        return {}

    @cached_property
    def _values(self) -> dict[str, tuple[np.ndarray, pl.Series]]:
        return {}

    def with_added(self, entries: Sequence[CatalogEntry]) -> CatalogView:
        """The view with more items.

        Raises:
            DataError: an id is taken, or occurs twice.
        """
        rows = dict(self.rows_of_added)
        for row, entry in enumerate(entries, start=len(self)):
            if entry.id in rows or self.has(entry.id):
                raise DataError(f"item '{entry.id}' is there already; remove it first, or choose another id")
            rows[entry.id] = row
        return replace(self, added=(*self.added, *entries), rows_of_added=rows)

    def without(self, ids: Iterable[object]) -> CatalogView:
        """The view without some of its items.

        Raises:
            DataError: an item is unknown.
        """
        removed = {self.row(id_) for id_ in ids}
        rows = {id_: row for id_, row in self.rows_of_added.items() if row not in removed}
        return replace(self, removed=self.removed | removed, rows_of_added=rows)


class PresentIds(Vocabulary):
    """The ids of a view's items that are not removed; the list is computed when it is first needed."""

    def __init__(self, view: CatalogView) -> None:
        self.kind, self._view = view.catalog.kind, view

    def __len__(self) -> int:
        return len(self._view) - len(self._view.removed)

    def __contains__(self, id_: object) -> bool:
        return self._view.has(id_)

    @cached_property
    def _ids(self) -> list[str]:  # type: ignore[override]
        view = self._view
        return [view.id(row) for row in range(len(view)) if row not in view.removed]

    @cached_property
    def _rows(self) -> dict[str, int]:  # type: ignore[override]
        return {id_: row for row, id_ in enumerate(self._ids)}
