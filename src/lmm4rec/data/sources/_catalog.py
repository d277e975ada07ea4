"""Catalogs read from tables of items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from lmm4rec.core.types import Modality
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.findings import Finding, counted
from lmm4rec.data.image_urls import UrlImages
from lmm4rec.data.sources._columns import (
    as_exact_numbers,
    as_ids,
    as_item_text,
    as_text,
    is_numeric,
    parse_column,
)
from lmm4rec.data.sources._ids import distinct_ids
from lmm4rec.data.sources._images import read_images
from lmm4rec.data.table import Table


def read_catalog(
    table: Table,
    *,
    item_column: str,
    image_column: str | None,
    image_folder: Path,
    text_columns: Sequence[str] | None,
    list_separator: str,
    urls: UrlImages | None = None,
) -> tuple[Catalog, tuple[Finding, ...]]:
    """The catalog in a table of items, and findings; of rows with the same id the first is kept.

    `urls` says where images of URLs lie and whether they are fetched; None: they are only counted.

    Raises:
        DataError: a column is missing, or no row has an id.
    """
    table.require(item_column, "item ids")
    image_column = _image_column(table, image_column)
    texts, findings = _text_columns(table, text_columns, {item_column, image_column})
    table = _one_row_an_item(table, item_column)
    frame = table.frame
    ids = frame[item_column].to_list()
    images, image_urls, on_images = read_images(table, image_column, ids, image_folder, urls)
    catalog = Catalog(
        ids=Vocabulary(ids),
        fields=pl.DataFrame({column: as_item_text(frame[column], list_separator) for column in texts}),
        images=images,
        source_rows=table.records.astype(np.int64),
        source_size=table.size,
        image_urls=image_urls,
        attributes=_attributes(frame, {item_column, image_column, *texts}),
    )
    return catalog, (*table.findings, *findings, *on_images)


def catalog_of_ids(items: pl.Series) -> tuple[Catalog, tuple[Finding, ...]]:
    """A catalog of the items of a log alone, which has no table of items."""
    ids = distinct_ids(items.unique(maintain_order=True)).to_list()
    message = f"there is no table of items: neither text nor images of {counted(len(ids), 'item')}"
    catalog = Catalog(Vocabulary(ids), pl.DataFrame(), (None,) * len(ids), np.arange(len(ids)), len(ids))
    return catalog, (Finding("no-items-table", "note", len(ids), message),)


def shipped_features(folder: Path) -> dict[Modality, Path]:
    """The `<modality>_feat.npy` files of a folder, by modality."""
    return {path.name.removesuffix("_feat.npy"): path for path in sorted(folder.glob("*_feat.npy"))}


def with_shipped(catalog: Catalog, *folders: Path) -> Catalog:
    """The catalog with the feature files of the folders; those of later folders take precedence."""
    shipped: dict[Modality, Path] = {}
    for folder in folders:
        shipped |= shipped_features(folder)
    return replace(catalog, shipped=shipped)


def _one_row_an_item(table: Table, item_column: str) -> Table:
    table = parse_column(table, item_column, as_ids, "they have no item id").filled()
    ids = table.frame[item_column]
    why = "their item id occurs above; the first row of an id is kept"
    return table.set_aside((~ids.is_first_distinct()).to_numpy(), "duplicate-item", why, lambda at: f"item {ids[at]}")


def _image_column(table: Table, named: str | None) -> str:
    return "image" if named is None else table.require(named, "images")


def _text_columns(
    table: Table, named: Sequence[str] | None, taken: set[str]
) -> tuple[Sequence[str], tuple[Finding, ...]]:
    """The columns of text, and a finding on the others."""
    if named is not None:
        return [table.require(column, "texts") for column in named], ()
    rest = [column for column in table.frame.columns if column not in taken]
    text_columns = [column for column in rest if _holds_text(table.frame[column])]
    used = set(text_columns)
    others = [column for column in rest if column not in used]
    if not others:
        return text_columns, ()
    message = f"{counted(len(others), 'column')} of {table.label} not used as text; text_columns can name them"
    return text_columns, (Finding("unused-column", "note", len(others), message, tuple(others[:10])),)


def _attributes(frame: pl.DataFrame, taken: set[str | None]) -> pl.DataFrame:
    """The columns that are neither id, image nor text of an item: numbers, truth values, dates and other texts."""
    columns = [frame[name] for name in frame.columns if name not in taken]
    return pl.DataFrame([as_exact_numbers(one) if is_numeric(one) else _plain(one) for one in columns])


def _plain(column: pl.Series) -> pl.Series:
    return column if column.dtype == pl.Boolean or column.dtype.is_temporal() else as_text(column)


def _holds_text(column: pl.Series) -> bool:
    kinds = pl.String | pl.Categorical | pl.Enum | pl.List | pl.Array | pl.Struct | pl.Object
    return isinstance(column.dtype, kinds) and not is_numeric(column)
