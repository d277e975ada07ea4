"""Filters on columns of the catalog, written as `category=shoes`, `price<=50` or `title~red`."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl

from lmm4rec.core.errors import ConfigError, DataError, did_you_mean
from lmm4rec.data.iso_times import read_moments, with_t
from lmm4rec.data.sources._columns import as_numbers

_FORM = re.compile(r"(.*?)(<=|>=|!=|=|<|>|~)(.*)", re.DOTALL)
_HELP = "a filter is COLUMN=VALUE, or with !=, <, <=, >, >= or ~ (contains), such as price<=50"
_DAY = timedelta(days=1) - timedelta(microseconds=1)  # from the first moment of a day to the last
_MOST_VALUES = 20_000  # among which the nearest one to an unknown value is looked for


@dataclass(frozen=True)
class Filter:
    """A condition on one column of the catalog."""

    column: str
    sign: str  # "=", "!=", "<", "<=", ">", ">=", or "~" for "contains"
    value: str

    @classmethod
    def parse(cls, text: str) -> Filter:
        """The filter in a text.

        Raises:
            ConfigError: the text is none.
        """
        parts = _FORM.fullmatch(text)
        if parts is None or not parts[1].strip():
            raise ConfigError(f"'{text}' is no filter: {_HELP}")
        return cls(parts[1].strip(), parts[2], parts[3].strip())

    def __str__(self) -> str:
        return f"{self.column}{self.sign}{self.value}"

    def passing(self, table: pl.DataFrame) -> pl.Series:
        """Whether each row of the catalog's columns passes; an empty cell passes `=` and `!=` alone.

        Values are compared as numbers where both are, as moments where both are dates or times, else as texts. A date
        without a time is the whole day: `=` passes on that day, `<=` up to its end and `>` after it, as a cell it is
        midnight. Times are in UTC unless they name a zone. `~` ignores case.

        Raises:
            ConfigError: there is no such column, or the value cannot be ordered like the column's cells.
        """
        column = table[require_column(self.column, table)]
        if self.sign == "~":
            found = column.cast(pl.String).str.to_lowercase().str.contains(self.value.lower(), literal=True)
        elif self.sign in ("=", "!="):
            found = self._equal(column)
            found = ~found if self.sign == "!=" else found
        else:
            found = self._ordered(column)
        return found.fill_null(value=False)

    def _equal(self, column: pl.Series) -> pl.Series:
        """Whether each cell is the value; an empty value stands for an empty cell."""
        texts = column.cast(pl.String).fill_null("")
        equal = texts == self.value
        if comparable := self._comparable(column):
            cells, least, most = comparable
            equal = equal | cells.is_between(least, most).fill_null(value=False)
        if column.dtype == pl.Boolean:
            equal = equal | (texts == self.value.lower())
        return equal

    def _ordered(self, column: pl.Series) -> pl.Series:
        """Whether each cell is above or below the value."""
        comparable = self._comparable(column)
        if comparable is None or comparable[0].null_count() == len(column) > column.null_count():
            raise self._without_order(column)
        cells, least, most = comparable
        if self.sign in ("<", ">="):
            return cells < least if self.sign == "<" else cells >= least
        return cells > most if self.sign == ">" else cells <= most

    def _comparable(self, column: pl.Series) -> tuple[pl.Series, Any, Any] | None:
        """The cells in a type that has an order, and the least and the most of what the value stands for there."""
        span, number = _span(self.value), _number(self.value)
        if span is not None and column.dtype in (pl.Date, pl.Datetime, pl.String):
            return _moments(column), *span
        if number is not None and not column.dtype.is_temporal():
            return _numbers(column, number), number, number
        return None

    def _without_order(self, column: pl.Series) -> ConfigError:
        examples = [repr(cell) for cell in column.drop_nulls().cast(pl.String).unique(maintain_order=True) if cell]
        return ConfigError(
            f"the filter {self} compares what has no order: < and > take numbers and ISO dates, and '{self.column}' "
            f"holds {', '.join(examples[:3]) or 'nothing'}"
        )


class NothingPassesError(DataError):
    """No item passes the filters of a request."""


def nothing_passes(filters: Sequence[Filter], counts: Sequence[int], table: pl.DataFrame) -> NothingPassesError:
    """The error of filters that no row of the catalog's columns passes together; `counts` rows pass each."""
    each = ", ".join(f"{one}: {count:,}" for one, count in zip(filters, counts, strict=True))
    hints = [_nearest_value(one, table) for one, count in zip(filters, counts, strict=True) if not count]
    return NothingPassesError(f"no item passes the filters (items that pass each: {each}).{''.join(hints)}")


def require_column(name: str, table: pl.DataFrame) -> str:
    """The name, which must be that of a column of the catalog.

    Raises:
        ConfigError: it is not; the message names the columns there are.
    """
    if name not in table.columns:
        known = ", ".join(table.columns) or "none"
        raise ConfigError(
            f"the catalog has no column '{name}'.{did_you_mean(name, table.columns)} Its columns: {known}"
        )
    return name


def _nearest_value(one: Filter, table: pl.DataFrame) -> str:
    """The cell that is most like the value of a filter that no row passes."""
    if one.sign != "=" or table[one.column].dtype != pl.String:
        return ""
    values = table[one.column].unique(maintain_order=True)
    return did_you_mean(one.value, [cell for cell in values if cell]) if len(values) <= _MOST_VALUES else ""


def _numbers(column: pl.Series, number: int | float) -> pl.Series:
    """The cells as floats, or as integers where the number is an integer that a float may not hold.

    In text they may have separators of thousands or a decimal comma, as in a log.
    """
    texts = column.str.strip_chars() if column.dtype == pl.String else column
    numbers = as_numbers(column)
    if not isinstance(number, int) or column.dtype.is_float():
        return numbers
    return texts.cast(pl.Int128, strict=False).fill_null(numbers.cast(pl.Int128, strict=False))


def _number(text: str) -> int | float | None:
    """The finite number in a text; an integer where it is whole and too long for a float."""
    try:
        number = float(text)
        if number.is_integer() and 2**53 <= abs(number) < 1e38:
            return int(Decimal(text))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _moments(column: pl.Series) -> pl.Series:
    """The cells as moments of UTC, without the zone; null for a text that is none."""
    if column.dtype == pl.String:
        dated = column.set(~column.str.contains(r"^\s*\d{4}-?\d\d-?\d\d"), None)  # leaves out sizes such as 10-12-14
        column = dated.to_frame("text").select(read_moments(with_t(pl.col("text")))).to_series()
    if isinstance(column.dtype, pl.Datetime) and column.dtype.time_zone is not None:
        column = column.dt.convert_time_zone("UTC").dt.replace_time_zone(None)
    return column.cast(pl.Datetime("us"))


def _span(text: str) -> tuple[datetime, datetime] | None:
    """The first and the last moment of UTC that a text names: those of a day, or twice the same."""
    if "-" not in text:
        return None
    try:
        first = datetime.fromisoformat(text)
        if first.tzinfo is not None:
            first = first.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        return None
    return first, first + _DAY if len(text) <= len("2026-11-01") else first
