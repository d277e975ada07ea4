"""Tables in CSV, TSV, Parquet, JSON lines or frames; rows that cannot be read are set aside and counted."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import polars as pl
from jaxtyping import Bool, Int32

from lmm4rec.core.errors import DataError, did_you_mean
from lmm4rec.data.findings import Finding, counted


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
            raise DataError(
                f"{self.label} has no column '{column}' for the {role}.{did_you_mean(column, known)} "
                f"Its columns: {', '.join(known)}"
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


def read_table(source: TableLike, label: str) -> Table:
    """The table in a file or a frame; `label` is the name of a frame in messages.

    The text cells of CSV, TSV and JSON lines stay text, so that ids keep their leading zeros.

    Raises:
        DataError: the file is missing, empty, of an unknown kind or unreadable as a whole.
    """
    if isinstance(source, pl.DataFrame):
        return _numbered(source, label)
    if isinstance(source, PandasFrame):
        return _numbered(_from_pandas(source, label), label)
    path = Path(source)
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; expected the file of the {label}")
    suffix = suffix_of(path)
    if suffix not in READERS:
        raise DataError(f"{path} is of an unknown kind; expected one of {', '.join(READERS)}")
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


def _read_delimited(path: Path, separator: str) -> Table:
    try:
        frame, suspicious = _scan_delimited(path, separator)
    except pl.exceptions.NoDataError:
        raise DataError(f"{path} is empty") from None
    except (pl.exceptions.PolarsError, OSError) as error:
        advice = "expected UTF-8 text, with each opening quote closed"
        raise DataError(f"{path} is not readable: {advice} ({_first_line(error)})") from None
    table = _numbered(frame, path.name, first=2)
    return _without_ragged(table, path, separator) if suspicious else table


def _scan_delimited(path: Path, separator: str) -> tuple[pl.DataFrame, bool]:
    """The cells as text, and whether some rows may have too few or too many of them."""
    read = partial(pl.read_csv, path, separator=separator, infer_schema=False)
    try:
        frame = read()
    except pl.exceptions.ComputeError:  # too many cells, or another error that is raised again
        return read(truncate_ragged_lines=True), True
    return frame, frame.height > 0 and frame.to_series(-1).has_nulls()  # the missing cells of a short row become null


def _without_ragged(table: Table, path: Path, separator: str) -> Table:
    """The table without rows of too many or too few cells: Polars cuts or fills them, the csv module finds them."""
    try:
        with _open_text(path) as file:
            widths = np.fromiter((len(row) for row in csv.reader(file, delimiter=separator)), np.int32)
    except csv.Error as error:
        raise DataError(f"{path} is not readable: {error}") from None
    header = int(np.argmax(widths > 0))
    expected, widths = widths[header], widths[header + 1 :]
    if len(widths) != len(table):
        raise DataError(f"{path} is not readable: some quotes are not closed")
    table = _without_blank(table, widths == 0)
    widths = widths[widths > 0]
    why = f"they don't have the {expected} cells of the header"
    return table.set_aside(widths != expected, "ragged-row", why, lambda at: counted(int(widths[at]), "cell"))


def _without_blank(table: Table, blank: Bool[np.ndarray, " rows"]) -> Table:
    frame = table.frame.filter(pl.Series(~blank))
    count = np.arange(frame.height, dtype=np.int32)
    return replace(table, frame=frame, rows=table.rows[~blank], records=count, size=frame.height)


def _open_text(path: Path) -> io.TextIOWrapper:
    raw = gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")  # noqa: SIM115 (the wrapper closes it)
    return io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")


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
    except pl.exceptions.PolarsError as error:
        raise DataError(f"{path} is not readable: its objects don't fit one table ({_first_line(error)})") from None
    table = _without_blank(_numbered(frame, path.name), blank)
    why = "they hold no JSON object"
    cut = [line[:60].decode(errors="replace") for line, is_blank in zip(lines, blank, strict=True) if not is_blank]
    return table.set_aside(bad[~blank], "broken-line", why, lambda at: cut[at])


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _from_pandas(frame: Any, label: str) -> pl.DataFrame:
    names = [str(name) for name in frame.columns]
    if len(set(names)) < len(names):
        raise DataError(f"{label} has two columns of one name: {', '.join(names)}")
    missing = frame.isna().to_numpy()
    columns = [_from_pandas_column(frame.iloc[:, at], missing[:, at]) for at in range(len(names))]
    return pl.DataFrame(dict(zip(names, columns, strict=True)))


def _from_pandas_column(column: Any, missing: Bool[np.ndarray, " rows"]) -> pl.Series:
    if isinstance(column.dtype, np.dtype) and column.dtype != object:
        return pl.Series(column.to_numpy())
    values = column.astype(object).to_numpy()  # pandas' own types would lose digits of large ids on the way to floats
    return from_objects([None if lacks else value for value, lacks in zip(values, missing, strict=True)])


def from_objects(values: Sequence[Any]) -> pl.Series:
    """A column of Python objects; where their types are mixed, a column of their texts (1.0 is "1")."""
    try:
        return pl.Series(values, strict=True)
    except (TypeError, pl.exceptions.PolarsError):
        return pl.Series([None if value is None else _text(value) for value in values], dtype=pl.String)


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", maxsplit=1)[0]


READERS: Mapping[str, Callable[[Path], Table]] = {
    ".csv": partial(_read_delimited, separator=","),
    ".csv.gz": partial(_read_delimited, separator=","),
    ".tsv": partial(_read_delimited, separator="\t"),
    ".tsv.gz": partial(_read_delimited, separator="\t"),
    ".inter": partial(_read_delimited, separator="\t"),
    ".item": partial(_read_delimited, separator="\t"),
    ".user": partial(_read_delimited, separator="\t"),
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
}
"""Readers of table files, by ending."""
