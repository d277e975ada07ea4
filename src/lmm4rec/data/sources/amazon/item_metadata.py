"""Metadata of the reviewed items, read block by block: texts, and the URL of an image."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import polars as pl

from lmm4rec.core.errors import DataError
from lmm4rec.data.findings import Finding, agreeing, counted
from lmm4rec.data.sources.amazon.editions import Edition
from lmm4rec.data.sources.amazon.line_blocks import SkipCounts, blocks
from lmm4rec.data.sources.amazon.text_cleaning import Meta, is_script, strings, text_fields

ROWS = 20_000  # of a Parquet file at a time
ImageSize: TypeAlias = Literal["thumb", "large", "hi_res"]

_ID = re.compile(rb"""["'](?:parent_)?asin["']\s*:\s*["']([^"']+)["']""")
_USED = (  # fields of an item, in any edition
    "title", "brand", "store", "categories", "category", "main_category", "description", "features", "feature",
    "imUrl", "images", "image", "imageURL", "imageURLHighRes",
)  # fmt: skip
_PLACE = "\0row"
_WHY = {"broken-meta": "they hold no item", "duplicate-item": "their item occurs above; the first is kept"}


@dataclass(frozen=True)
class ItemTable:
    """Texts and image URLs of the items, in their order; empty where unknown."""

    fields: pl.DataFrame
    image_urls: tuple[str, ...]
    findings: tuple[Finding, ...] = ()


def read_items(files: Sequence[Path], edition: Edition, ids: Sequence[str], image_size: ImageSize) -> ItemTable:
    """The texts and the image URL of each of the items `ids`, from the files of an edition.

    Raises:
        DataError: a file is damaged or lacks the ids, or it knows none of the items.
    """
    skipped = SkipCounts(files[0].name if len(files) == 1 else files[0].parent.name)
    rows = {id_: row for row, id_ in enumerate(ids)}
    texts = _TextColumns(len(ids), () if edition.name == "2014" else ("features",))
    urls = [""] * len(ids)
    scripted = 0
    for place, meta in _metas(files, edition, rows, skipped):
        row = rows.get(_id(meta, edition))
        if row is None:
            continue
        if texts.known[row]:
            skipped.add("duplicate-item", f"{place}: item {ids[row]}")
            continue
        fields = text_fields(meta)
        scripted += is_script(meta.get("title"))
        texts.put(row, fields)
        urls[row] = image_url(meta, image_size)
    if not texts.known.any():
        raise DataError(
            f"{skipped.label} knows none of the reviewed items, such as '{ids[0]}'; is it of the same edition?"
        )
    unknown = [ids[row] for row in np.flatnonzero(~texts.known).tolist()]
    findings = (*skipped.findings(noun="line", why=_WHY), *_findings(skipped.label, unknown, scripted))
    return ItemTable(texts.table(), tuple(urls), findings)


class _TextColumns:
    """The texts of items, moved into columns every few rows: Python strings would take twice the memory."""

    def __init__(self, size: int, more: tuple[str, ...]) -> None:
        self.known = np.zeros(size, dtype=bool)
        self._names = ("title", "brand", "categories", "description", *more)
        self._rows: list[tuple[int | str, ...]] = []
        self._schema = {_PLACE: pl.Int64} | dict.fromkeys(self._names, pl.String)
        self._columns: list[pl.DataFrame] = [pl.DataFrame(schema=self._schema)]

    def put(self, row: int, fields: Mapping[str, str]) -> None:
        """Set the texts of the item in a row."""
        self.known[row] = True
        self._rows.append((row, *(fields[name] for name in self._names)))
        if len(self._rows) == ROWS:
            self._flush()

    def table(self) -> pl.DataFrame:
        """The texts of all items, row by row."""
        self._flush()
        every = pl.DataFrame({_PLACE: pl.int_range(len(self.known), eager=True)})
        found = pl.concat(self._columns)
        return every.join(found, on=_PLACE, how="left", maintain_order="left").drop(_PLACE).fill_null("")

    def _flush(self) -> None:
        self._columns.append(pl.DataFrame(self._rows, schema=self._schema, orient="row"))
        self._rows = []


def _findings(label: str, unknown: Sequence[str], scripted: int) -> Iterator[Finding]:
    if unknown:
        message = f"{counted(len(unknown), 'item')} without metadata in {label}; kept without text and image"
        yield Finding("no-metadata", "warning", len(unknown), message, tuple(f"item {id_}" for id_ in unknown[:10]))
    if scripted:
        hold = agreeing(scripted, "hold")
        message = f"{counted(scripted, 'title')} of {label} {hold} a page's script instead of a title; left empty"
        yield Finding("script-title", "warning", scripted, message)


def parse(line: bytes) -> Meta | None:
    """The object in a line of JSON, or of a Python literal as in 2014 (never evaluated); None where there is none."""
    try:
        text = line.decode("utf-8")
        found = json.loads(text) if text.lstrip().startswith('{"') else ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def image_url(meta: Meta, size: ImageSize) -> str:
    """The address of an item's main image in the given size, else in the nearest there is; "" without one."""
    if isinstance(meta.get("imUrl"), str):
        return str(meta["imUrl"]).strip()
    sizes = {"hi_res": ("hi_res", "large", "thumb"), "large": ("large", "hi_res", "thumb")}
    wanted = sizes.get(size, ("thumb", "large", "hi_res"))
    images = _images(meta)
    main = [image for image in images if image.get("variant") == "MAIN"]
    for image in (*main, *images):
        for name in wanted:
            if isinstance(image.get(name), str) and image[name].strip():
                return str(image[name]).strip()
    return ""


def _images(meta: Meta) -> list[Meta]:
    """An item's images, each a mapping of size to address, whatever the edition."""
    images = meta.get("images")
    if isinstance(images, Mapping):  # Parquet of 2023: one list for each size
        columns = {name: values for name, values in images.items() if isinstance(values, list)}
        longest = max(map(len, columns.values()), default=0)
        return [{name: at < len(values) and values[at] for name, values in columns.items()} for at in range(longest)]
    if isinstance(images, list):
        return [image for image in images if isinstance(image, Mapping)]
    small, large = (strings(meta.get(name)) for name in ("imageURL", "imageURLHighRes"))
    small = small or strings(meta.get("image"))
    first = [{"thumb": small[0]}] if small else [{}]
    return [first[0] | ({"hi_res": large[0]} if large else {})]


def _metas(
    files: Sequence[Path], edition: Edition, wanted: Mapping[str, int], skipped: SkipCounts
) -> Iterator[tuple[str, Meta]]:
    """The metadata of items that may be among the wanted ones, each with its place in the file."""
    names = {id_.encode() for id_ in wanted}
    for file in files:
        if file.suffix == ".parquet":
            yield from _parquet_metas(file, edition, wanted)
            continue
        for first, lines in blocks(file):
            for number, line in enumerate(lines.split(b"\n"), start=first):
                if not line.strip() or _is_of_others(line, names):
                    continue
                meta = parse(line)
                if meta is None or not _id(meta, edition):
                    skipped.add("broken-meta", f"line {number}: {line[:60].decode(errors='replace')}")
                else:
                    yield f"line {number}", meta


def _is_of_others(line: bytes, names: set[bytes]) -> bool:
    """Whether a line is surely about other items: parsing it would take a hundred times as long."""
    found = _ID.findall(line)
    return bool(found) and line.strip().endswith(b"}") and names.isdisjoint(found)


def _parquet_metas(file: Path, edition: Edition, wanted: Mapping[str, int]) -> Iterator[tuple[str, Meta]]:
    try:
        table = pl.scan_parquet(file, glob=False)
        if edition.item not in table.collect_schema().names():
            raise DataError(f"{file} has no column {edition.item}")
        size = table.select(pl.len()).collect().item()
        columns = [column for column in table.collect_schema().names() if column in (edition.item, *_USED)]
        names = pl.DataFrame({edition.item: list(wanted)})
        for at in range(0, size, ROWS):
            frame = table.select(columns).slice(at, ROWS).collect().with_row_index(_PLACE, offset=at + 1)
            for meta in frame.join(names, on=edition.item, how="semi", maintain_order="left").iter_rows(named=True):
                yield f"row {meta[_PLACE]}", meta
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{file} is not readable Parquet: {str(error).splitlines()[0]}") from None


def _id(meta: Meta, edition: Edition) -> str:
    id_ = meta.get(edition.item)
    return id_ if isinstance(id_, str) else ""
