"""Images that a table of items names, by path or by URL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from lmm4rec.data.findings import Finding, agreeing, counted
from lmm4rec.data.image_paths import locate, named_by
from lmm4rec.data.image_urls import UrlImages, first_url, images_by_url, is_url
from lmm4rec.data.images import ImageFile
from lmm4rec.data.object_store import address_of, local_copy
from lmm4rec.data.sources._columns import as_text
from lmm4rec.data.table import Table


def read_images(
    table: Table, column: str, ids: Sequence[str], folder: Path, urls: UrlImages | None
) -> tuple[tuple[ImageFile | None, ...], tuple[str, ...], list[Finding]]:
    """The image of each row, the URL of each ("" where it has none; empty: no row has one), and findings.

    Of several names in a cell (a list, or URLs in a row) the first is used.
    """
    if column not in table.frame.columns:
        return (None,) * len(ids), (), []
    names, several = _first_names(table.frame[column])
    urls_at: dict[int, str] = {}
    for row, name in enumerate(names):
        if name and is_url(name):
            urls_at[row], more = first_url(name)
            several += [row] if more else []
    paths = [None if row in urls_at else name for row, name in enumerate(names)]
    if (remote := address_of(folder)) is not None and any(paths):
        local_copy(remote, named_by(paths))
    images, findings = locate(paths, folder, ids)
    labels = [f"{table.label} row {table.rows[row]}: item {ids[row]}" for row in urls_at]
    if several:
        examples = tuple(f"{table.label} row {table.rows[row]}: item {ids[row]}" for row in several[:10])
        message = f"{counted(len(several), 'item')} {agreeing(len(several), 'name')} several images; the first is used"
        findings.append(Finding("several-images", "note", len(several), message, examples))
    if not urls_at:
        return images, (), findings
    image_urls = tuple(urls_at.get(row, "") for row in range(len(ids)))
    if urls is None:
        examples = tuple(f"{label}: {url[:200]}" for label, url in zip(labels[:10], urls_at.values(), strict=False))
        named = agreeing(len(urls_at), "name")
        message = f"{counted(len(urls_at), 'item')} {named} a URL as image, which this source does not fetch"
        unused = Finding("image-not-fetched", "warning", len(urls_at), message, examples)
        return images, image_urls, [*findings, unused]
    fetched, on_urls = images_by_url(list(urls_at.values()), labels, urls)
    by_row = dict(zip(urls_at, fetched, strict=True))
    return tuple(by_row.get(row, image) for row, image in enumerate(images)), image_urls, [*findings, *on_urls]


def _first_names(column: pl.Series) -> tuple[list[str | None], list[int]]:
    """The first name in each cell, and the rows whose cell is a list of several."""
    if not isinstance(column.dtype, pl.List | pl.Array | pl.Struct):
        return as_text(column).to_list(), []
    names = [list(_names(value)) for value in column.to_list()]
    several = [row for row, found in enumerate(names) if len(found) > 1]
    return [found[0] if found else None for found in names], several


def _names(value: object) -> Iterator[str]:
    """The names in a list, or in an object such as {"large": …}."""
    if isinstance(value, Mapping):
        yield from (name for part in value.values() for name in _names(part))
    elif isinstance(value, list | tuple | pl.Series):
        yield from (name for part in value for name in _names(part))
    elif value not in (None, ""):
        yield str(value)
