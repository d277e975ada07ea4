"""Tables in CSV, TSV, Parquet, JSON lines or frames; rows that cannot be read are set aside and counted."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import polars as pl
from jaxtyping import Bool, Int32

from lmm4rec.core.errors import DataError, did_you_mean
from lmm4rec.data import delimited_text as text
from lmm4rec.data.findings import Finding, counted
from lmm4rec.data.object_columns import from_pandas, from_records


@runtime_checkable
class PandasFrame(Protocol):
    """The part of a pandas DataFrame that is used, so that pandas itself is never imported."""

    columns: Any

    def isna(self) -> Any:
        """A mask of the missing values."""
        ...


TableLike: TypeAlias = str | Path | pl.DataFrame | PandasFrame
"""A path to a table file, or a polars or pandas frame."""


@dataclass(frozen=True)
class Table:
    """The readable rows of a table, and their places in the file."""

    label: str  # its name in messages: the file's name
    frame: pl.DataFrame
    rows: Int32[np.ndarray, " rows"]  # each row's number as an editor or a spreadsheet shows it
    records: Int32[np.ndarray, " rows"]  # each row's position among the file's records, from 0, without blank lines
    size: int  # how many records the file holds, unreadable ones included
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return self.frame.height

    def require(self, column: str, role: str) -> str:
        """The column's name, or an error that lists the columns there are.

        Raises:
            DataError: there is no such column.
        """
        if column not in self.frame.columns:
            known = self.frame.columns
            others = [sign for sign in (";", ",", "|", "\t") if len(known) == 1 and sign in known[0]]
            hint = f" The separator may be another: separator = {json.dumps(others[0])}" if others else ""
            raise DataError(
                f"{self.label} has no column '{column}' for the {role}.{did_you_mean(column, known)} "
                f"Its columns: {', '.join(known)}.{hint}"
            )
        return column

    def with_column(self, name: str, values: pl.Series) -> Table:
        """The table with a column added or replaced."""
        return replace(self, frame=self.frame.with_columns(values.alias(name)))

    def filled(self) -> Table:
        """The table itself, which must still have rows.

        Raises:
            DataError: every row was set aside.
        """
        if len(self) == 0:
            raise DataError(f"{self.label} has no readable row ({'; '.join(map(str, self.findings))})")
        return self

    def set_aside(self, bad: Bool[np.ndarray, " rows"], kind: str, why: str, shown: Callable[[int], str]) -> Table:
        """The table without the bad rows, with a finding that counts them and shows ten; `shown` describes one."""
        if not bad.any():
            return self
        positions = np.flatnonzero(bad)
        examples = tuple(f"{self.label} row {self.rows[at]}: {shown(int(at))}" for at in positions[:10])
        message = f"{counted(len(positions), 'row')} of {self.label} set aside: {why}"
        good = ~bad
        return replace(
            self,
            frame=self.frame.filter(pl.Series(good)),
            rows=self.rows[good],
            records=self.records[good],
            findings=(*self.findings, Finding(kind, "warning", len(positions), message, examples)),
        )


def read_table(source: TableLike, label: str, *, separator: str | None = None, encoding: str | None = None) -> Table:
    """The table in a file or a frame; `label` is the name of a frame in messages.

    `separator` and `encoding` are those of delimited files; left out: by the file's ending, and by its first bytes.
    The text cells of CSV, TSV and JSON lines stay text, so that ids keep their leading zeros.

    Raises:
        DataError: the file is missing, empty, of an unknown kind or unreadable as a whole.
    """
    if isinstance(source, pl.DataFrame):
        return _numbered(source, label)
    if isinstance(source, PandasFrame):
        return _numbered(from_pandas(source, label), label)
    path = Path(source)
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; expected the file of the {label}")
    suffix = suffix_of(path)
    if suffix not in READERS:
        raise DataError(f"{path} is of an unknown kind; expected one of {', '.join(READERS)}")
    if suffix in DELIMITED:
        return DELIMITED[suffix](path, separator, encoding)
    return READERS[suffix](path)


def suffix_of(path: Path) -> str:
    """The file's ending in lower case, with that of its compression: ".csv", ".csv.gz"."""
    ending = path.suffix.lower()
    return Path(path.stem).suffix.lower() + ending if ending == ".gz" else ending


def _numbered(frame: pl.DataFrame, label: str, *, first: int = 1) -> Table:
    if frame.height == 0:
        raise DataError(f"{label} is empty: it has no rows")
    count = np.arange(frame.height, dtype=np.int32)
    return Table(label, frame, count + np.int32(first), count, frame.height)


def _read_parquet(path: Path) -> Table:
    try:
        return _numbered(pl.read_parquet(path), path.name)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DataError(f"{path} is not readable Parquet: {_first_line(error)}") from None


def _read_delimited(
    path: Path, separator: str | None = None, encoding: str | None = None, *, usual: str, quotes: bool | None
) -> Table:
    """A delimited file's table; `quotes` enclose cells, are letters, or (None) either, as the file shows."""
    separator, encoding = usual if separator is None else separator, text.encoding_of(path, encoding)
    plain = encoding in ("utf-8", "utf-8-sig")
    quoted = text.quotes_enclose(path, encoding, separator) if quotes is None else quotes
    try:
        content = path if plain else io.BytesIO(text.read_text(path, encoding).encode())
        frame, suspicious = _scan_delimited(content, separator, quoted=quoted)
    except pl.exceptions.NoDataError:
        raise DataError(f"{path} is empty") from None
    except (pl.exceptions.PolarsError, OSError):
        damaged = _read_damaged(path, separator, encoding, quoted=quoted)
        return _without_repeated(damaged, path, separator, encoding, quoted=quoted)
    table = _numbered(frame, path.name, first=2)
    if suspicious:
        ragged = _without_ragged(table, path, separator, encoding, quoted=quoted)
        table = _read_damaged(path, separator, encoding, quoted=quoted) if ragged is None else ragged
    return _without_repeated(table, path, separator, encoding, quoted=quoted)


def _scan_delimited(content: Path | io.BytesIO, separator: str, *, quoted: bool) -> tuple[pl.DataFrame, bool]:
    """The cells as text, and whether some rows may have too few or too many of them."""
    read = partial(pl.read_csv, separator=separator, infer_schema=False, quote_char='"' if quoted else None)
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
            widths = np.fromiter((len(row) for row in cells), np.int32)
    except UnicodeError:
        return None
    except csv.Error as error:
        raise DataError(f"{path} is not readable: {error}") from None
    header = int(np.argmax(widths > 0))
    expected, widths = widths[header], widths[header + 1 :]
    if len(widths) != len(table):
        return None
    table = _without_blank(table, widths == 0)
    return _of_width(table, widths[widths > 0], int(expected))


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
    table = _numbered(pl.DataFrame(dict(zip(names, columns, strict=True))), path.name, first=2)
    blank = np.array([not record.cells for record in records], dtype=bool)
    filled = [record for record in records if record.cells]
    table = _without_blank(table, blank)
    bad = np.array([bool(record.damage) for record in filled], dtype=bool)
    why = "a quote in them is not closed, or they are not text: expected UTF-8"
    table = table.set_aside(bad, "damaged-row", why, lambda at: filled[at].damage)
    return _of_width(table, np.array([len(record.cells) for record in filled if not record.damage], np.int32), width)


def _without_repeated(table: Table, path: Path, separator: str, encoding: str, *, quoted: bool) -> Table:
    """The table without the later columns of a name that the header has twice, with a finding that names them."""
    if not any("_duplicated_" in name for name in table.frame.columns):
        return table
    header = text.header_of(path, encoding, separator, quoted=quoted)
    repeated = text.repeated_names(header)
    if not repeated or len(header) != table.frame.width:
        return table
    kept = [name for at, name in enumerate(table.frame.columns) if header[at] not in header[:at]]
    told = tuple(f"'{name}' in columns {', '.join(map(str, places))}" for name, places in repeated.items())
    message = f"the header of {path.name} has the same name twice ({'; '.join(told)}); the first column is used"
    finding = Finding("duplicate-column", "warning", table.frame.width - len(kept), message, told[:10])
    return replace(table, frame=table.frame.select(kept), findings=(*table.findings, finding))


def _without_blank(table: Table, blank: Bool[np.ndarray, " rows"]) -> Table:
    frame = table.frame.filter(pl.Series(~blank))
    count = np.arange(frame.height, dtype=np.int32)
    return replace(table, frame=frame, rows=table.rows[~blank], records=count, size=frame.height)


def _read_json_lines(path: Path) -> Table:
    try:
        return _numbered(pl.read_ndjson(path, infer_schema_length=None), path.name)
    except (pl.exceptions.PolarsError, OSError):
        return _read_damaged_json_lines(path)


def _read_damaged_json_lines(path: Path) -> Table:
    lines = path.read_bytes().splitlines()
    blank = np.array([not line.strip() for line in lines], dtype=bool)
    bad = np.array([not _is_object(line) for line in lines], dtype=bool)
    if bad.all():
        raise DataError(f"{path} holds no JSON lines; expected one object a line")
    readable = b"\n".join(b"{}" if is_bad else line for line, is_bad in zip(lines, bad, strict=True))
    try:
        frame = pl.read_ndjson(io.BytesIO(readable), infer_schema_length=None)
    except pl.exceptions.PolarsError:  # cells of one name are of several kinds
        frame = from_records([json.loads(line) for line in readable.splitlines()])
    table = _without_blank(_numbered(frame, path.name), blank)
    why = "they hold no JSON object"
    cut = [line[:60].decode(errors="replace") for line, is_blank in zip(lines, blank, strict=True) if not is_blank]
    return table.set_aside(bad[~blank], "broken-line", why, lambda at: cut[at])


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]


_CSV = partial(_read_delimited, usual=",", quotes=True)
_TSV = partial(_read_delimited, usual="\t", quotes=None)
_ATOMIC = partial(_read_delimited, usual="\t", quotes=False)  # RecBole writes quotes as letters
DELIMITED: Mapping[str, Callable[..., Table]] = {
    ".csv": _CSV, ".csv.gz": _CSV, ".tsv": _TSV, ".tsv.gz": _TSV, ".txt": _TSV,
    ".inter": _ATOMIC, ".item": _ATOMIC, ".user": _ATOMIC,
}  # fmt: skip
"""Readers of delimited files, which take `separator` and `encoding`."""
READERS: Mapping[str, Callable[[Path], Table]] = {
    **DELIMITED,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}
"""Readers of table files, by ending."""
