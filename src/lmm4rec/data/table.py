"""Tables whose unreadable rows are set aside and counted, and what they can be read from."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
            if known[0].startswith("sep="):
                rule = f"separator = {json.dumps(known[0][4:])}"
                raise DataError(f"the first line of {self.label} is '{known[0]}', of Excel: delete it and say {rule}")
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


def numbered(frame: pl.DataFrame, label: str, *, first: int = 1) -> Table:
    """The table of a frame; its first row has the number `first`.

    Raises:
        DataError: it has no rows.
    """
    if frame.height == 0:
        raise DataError(f"{label} is empty: it has no rows")
    count = np.arange(frame.height, dtype=np.int32)
    return Table(label, frame, count + np.int32(first), count, frame.height)


def without_blank(table: Table, blank: Bool[np.ndarray, " rows"]) -> Table:
    """The table without blank rows, which are no records; the other rows keep their numbers."""
    frame = table.frame.filter(pl.Series(~blank))
    count = np.arange(frame.height, dtype=np.int32)
    return replace(table, frame=frame, rows=table.rows[~blank], records=count, size=frame.height)


def with_first_columns(table: Table, header: Sequence[str]) -> Table:
    """The table without the later columns of a name that the header has twice, with a finding that names them."""
    repeated = {name: [at for at, other in enumerate(header, 1) if other == name]
                for name, count in Counter(header).items() if count > 1}  # fmt: skip
    if not repeated or len(header) != table.frame.width:
        return table
    kept = [name for at, name in enumerate(table.frame.columns) if header[at] not in header[:at]]
    told = tuple(f"'{name}' in columns {', '.join(map(str, places))}" for name, places in repeated.items())
    message = f"the header of {table.label} has the same name twice ({'; '.join(told)}); the first column is used"
    finding = Finding("duplicate-column", "warning", table.frame.width - len(kept), message, told[:10])
    return replace(table, frame=table.frame.select(kept), findings=(*table.findings, finding))


def first_line(error: Exception) -> str:
    """The first line of a library's message."""
    return str(error).strip().split("\n", maxsplit=1)[0]
