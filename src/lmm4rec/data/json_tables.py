"""Tables in JSON: lines, one array of objects, or columns; what is no object is set aside."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lmm4rec.core.errors import DataError
from lmm4rec.data import delimited_text as text
from lmm4rec.data.object_columns import from_records, may_lack_digits
from lmm4rec.data.table import Table, numbered, without_blank


def read_json(path: Path) -> Table:
    """The table in JSON lines, an array of objects, an object whose one list of objects it is, or one of columns."""
    encoding = text.encoding_of(path, None)
    with text.open_bytes(path) as file:
        start = file.read(4096)
    if path.suffix.lower() == ".json" or start.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        records = _records(text.read_text(path, encoding))
        if records is not None:
            return _of_records(records, path)
    if encoding == "utf-8-sig" and not start.startswith(b"\xef\xbb\xbf") and not text.is_compressed(path):
        return _read_lines(path, path)
    return _read_lines(io.BytesIO(text.read_text(path, encoding).encode()), path)


def _records(content: str) -> Sequence[Any] | None:
    """The elements of the one array in a text; None where there is no such."""
    try:
        whole = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if isinstance(whole, dict):
        lists = [
            value for value in whole.values() if isinstance(value, list) and any(isinstance(x, dict) for x in value)
        ]
        columns = _columns(whole)
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        whole = lists[0] if len(lists) == 1 else rows or None
    return whole if isinstance(whole, list) else None


def _columns(whole: dict[str, Any]) -> dict[str, list[Any]]:
    """The columns of a table in an object: lists of one length, or objects with the same row names (pandas)."""
    values = list(whole.values())
    if len(values) > 1 and all(isinstance(value, list) for value in values) and len({*map(len, values)}) == 1:
        return whole
    if values and all(isinstance(value, dict) and value.keys() == values[0].keys() for value in values):
        return {name: list(value.values()) for name, value in whole.items()}
    return {}


def _concatenated(content: str) -> Sequence[Any] | None:
    """The values that stand one after another in a text, over any number of lines each; None where that fails."""
    decoder, at = json.JSONDecoder(), 0
    values: list[Any] = []
    try:
        while (at := _after_space(content, at)) < len(content):
            value, at = decoder.raw_decode(content, at)
            values.append(value)
    except (ValueError, RecursionError):
        return None
    return values


def _after_space(content: str, at: int) -> int:
    found = re.compile(r"[\s,]*").match(content, at)
    return found.end() if found else at


def _of_records(records: Sequence[Any], path: Path) -> Table:
    bad = np.array([not isinstance(record, dict) for record in records], dtype=bool)
    if bad.all():
        raise DataError(f"{path} holds an array without objects; expected one object a row")
    table = numbered(from_records([record if isinstance(record, dict) else {} for record in records]), path.name)
    return table.set_aside(bad, "broken-line", "they hold no JSON object", lambda at: repr(records[at])[:60])


def _read_lines(content: Path | io.BytesIO, path: Path) -> Table:
    try:
        with path.open("rb") as file:  # a path would be a pattern, in which [ and * stand for others
            lines = content if isinstance(content, io.BytesIO) else file
            return numbered(_whole_frame(lines), path.name)
    except (pl.exceptions.PolarsError, OSError):
        return _read_lines_apart(content.getvalue() if isinstance(content, io.BytesIO) else path.read_bytes(), path)


def _whole_frame(lines: io.BytesIO | io.BufferedReader) -> pl.DataFrame:
    """The frame of lines that are all readable.

    Raises:
        PolarsError: they are not, or a column mixes kinds, among them long whole numbers and fractions.
    """
    frame = pl.read_ndjson(lines, infer_schema_length=None)
    if any(map(may_lack_digits, frame)):
        raise pl.exceptions.ComputeError("whole numbers may have lost digits among fractions")
    return frame


def _read_lines_apart(content: bytes, path: Path) -> Table:
    lines = content.split(b"\n")
    blank = np.array([not line.strip() for line in lines], dtype=bool)
    objects = [_object(line) for line in lines]
    bad = np.array([object_ is None for object_ in objects], dtype=bool)
    if bad.sum() * 2 > len(bad) and (records := _concatenated(content.decode(errors="replace"))):
        return _of_records(records, path)
    if bad.all():
        raise DataError(f"{path} holds no JSON lines; expected one object a line")
    readable = b"\n".join(b"{}" if is_bad else line.strip() for line, is_bad in zip(lines, bad, strict=True))
    try:
        frame = _whole_frame(io.BytesIO(readable))
    except pl.exceptions.PolarsError:  # cells of one name are of several kinds
        frame = from_records([object_ or {} for object_ in objects])
    table = without_blank(numbered(frame, path.name), blank)
    why = "they hold no JSON object"
    cut = [line[:60].decode(errors="replace") for line, is_blank in zip(lines, blank, strict=True) if not is_blank]
    return table.set_aside(bad[~blank], "broken-line", why, lambda at: cut[at])


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
