"""Tables in delimited files; rows with damaged quotes, other numbers of cells or undecoded bytes are set aside."""

from __future__ import annotations

import csv
import io
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int32

from lmm4rec.core.errors import DataError
from lmm4rec.data import delimited_text as text
from lmm4rec.data.findings import counted
from lmm4rec.data.table import Table, numbered, with_first_columns, without_blank


def read_delimited(
    path: Path, separator: str | None = None, encoding: str | None = None, *, usual: str, quotes: bool | None
) -> Table:
    """A delimited file's table; `quotes` enclose cells, are letters, or (None) either, as the file shows."""
    separator, encoding = usual if separator is None else separator, text.encoding_of(path, encoding)
    quoted = text.quotes_enclose(path, encoding, separator) if quotes is None else quotes
    try:
        frame, suspicious = _scan_delimited(_content(path, encoding), separator, quoted=quoted)
    except pl.exceptions.NoDataError:
        raise DataError(f"{path} is empty") from None
    except (pl.exceptions.PolarsError, OSError):
        damaged = _read_damaged(path, separator, encoding, quoted=quoted)
        return _without_repeated(damaged, path, separator, encoding, quoted=quoted)
    table = numbered(frame, path.name, first=2)
    if suspicious:
        ragged = _without_ragged(table, path, separator, encoding, quoted=quoted)
        table = _read_damaged(path, separator, encoding, quoted=quoted) if ragged is None else ragged
    return _without_repeated(table, path, separator, encoding, quoted=quoted)


def _content(path: Path, encoding: str) -> Path | io.BytesIO:
    """The file, or its text as UTF-8 with newlines where Polars would not read it so."""
    with text.open_bytes(path) as file:
        start = file.read(1 << 16)
    if b"\r" in start and b"\n" not in start:  # lines of the old Macintosh
        return io.BytesIO(text.read_text(path, encoding).replace("\r", "\n").encode())
    if encoding not in ("utf-8", "utf-8-sig"):
        return io.BytesIO(text.read_text(path, encoding).encode())
    if not text.is_compressed(path):
        return path
    with text.open_bytes(path) as file:
        return io.BytesIO(file.read())


def _scan_delimited(content: Path | io.BytesIO, separator: str, *, quoted: bool) -> tuple[pl.DataFrame, bool]:
    """The cells as text, and whether some rows may have too few or too many of them."""
    quote = '"' if quoted else None
    read = partial(pl.read_csv, separator=separator, infer_schema=False, quote_char=quote, glob=False)
    try:
        frame = read(content)
    except pl.exceptions.ComputeError:  # too many cells, or another error that is raised again
        if isinstance(content, io.BytesIO):
            content.seek(0)
        return read(content, truncate_ragged_lines=True), True
    return frame, frame.height > 0 and frame.to_series(-1).has_nulls()  # the missing cells of a short row become null


def _without_ragged(table: Table, path: Path, separator: str, encoding: str, *, quoted: bool) -> Table | None:
    """The table without rows of too many or too few cells, which Polars cuts or fills; None: it is damaged."""
    try:
        with text.open_bytes(path) as file, io.TextIOWrapper(file, encoding, newline="") as lines:
            cells = text.rows_of(lines, separator, quoted=quoted)
            expected = len(next((row for row in cells if row), []))
            widths = np.fromiter((text.width_of(row, expected) for row in cells), np.int32)
    except UnicodeError:
        return None
    except csv.Error as error:
        raise DataError(f"{path} is not readable: {error}") from None
    if len(widths) != len(table):
        return None
    table = without_blank(table, widths == 0)
    return _of_width(table, widths[widths > 0], expected)


def _of_width(table: Table, widths: Int32[np.ndarray, " rows"], expected: int) -> Table:
    why = f"they don't have the {expected} cells of the header"
    return table.set_aside(widths != expected, "ragged-row", why, lambda at: counted(int(widths[at]), "cell"))


def _read_damaged(path: Path, separator: str, encoding: str, *, quoted: bool) -> Table:
    """The table in a file with open quotes or bytes that are no UTF-8: the records that hold them are set aside.

    Raises:
        DataError: more than a twentieth of the records are not in the encoding.
    """
    content = text.read_text(path, encoding, errors="surrogateescape")
    header, *records = list(text.damaged_records(content, separator, quoted=quoted))
    while not header.cells and records:
        header, *records = records
    undecoded = sum("UTF-8" in record.damage for record in (header, *records))
    if undecoded * 20 > len(records) or header.damage:
        problem = header.damage or f"expected UTF-8 text, which {counted(undecoded, 'row')} are not"
        raise DataError(f'{path} is not readable: {problem}; another encoding is named by encoding = "cp1252"')
    names, width = list(header.cells), len(header.cells)
    names = [name if name not in names[:at] else f"{name}_duplicated_{at}" for at, name in enumerate(names)]
    rows = [[*record.cells, *[""] * width][:width] if not record.damage else [""] * width for record in records]
    columns = [pl.Series([row[at] or None for row in rows], dtype=pl.String) for at in range(width)]
    table = numbered(pl.DataFrame(dict(zip(names, columns, strict=True))), path.name, first=2)
    blank = np.array([not record.cells for record in records], dtype=bool)
    filled = [record for record in records if record.cells]
    table = without_blank(table, blank)
    bad = np.array([bool(record.damage) for record in filled], dtype=bool)
    why = "a quote in them is not closed, or they are not text: expected UTF-8"
    table = table.set_aside(bad, "damaged-row", why, lambda at: filled[at].damage)
    return _of_width(
        table, np.array([text.width_of(record.cells, width) for record in filled if not record.damage], np.int32), width
    )


def _without_headers(table: Table) -> Table:
    """The table without rows that repeat the header, as files written one after another have them."""
    frame = table.frame
    again = frame.select(pl.all_horizontal(
        (pl.nth(at).str.strip_chars_start("\ufeff") if at == 0 else pl.nth(at)).eq_missing(pl.lit(name))
        for at, name in enumerate(frame.columns)
    )) if (frame.to_series(0).str.strip_chars_start("\ufeff") == frame.columns[0]).any() else None  # fmt: skip
    if again is None:
        return table
    return table.set_aside(
        again.to_series().to_numpy(), "repeated-header", "they repeat the header", lambda at: "header"
    )


def _without_repeated(table: Table, path: Path, separator: str, encoding: str, *, quoted: bool) -> Table:
    """The table without repeated headers, and without the later columns of a name that the header has twice."""
    if table.frame.width:
        table = _without_headers(table)
    if not any("_duplicated_" in name for name in table.frame.columns):
        return table
    return with_first_columns(table, text.header_of(path, encoding, separator, quoted=quoted))
