"""Columns parsed as ids, numbers and texts; cells that cannot be parsed become null."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from lmm4rec.data.object_columns import flat_text, from_objects
from lmm4rec.data.table import Table


def parse_column(table: Table, column: str, parse: Callable[[pl.Series], pl.Series], why: str) -> Table:
    """The table with a column parsed; rows where that gives null are set aside."""
    raw = table.frame[column]
    values = parse(raw)
    table = table.with_column(column, values)
    return table.set_aside(
        values.is_null().to_numpy(), f"unreadable-{column}", why, lambda at: f"{column} is {raw[at]!r}"
    )


def as_text(column: pl.Series) -> pl.Series:
    """The values as text: 1 and 1.0 become "1", lists "A, B", objects "name: A", text stays, NaN is null."""
    if column.dtype == pl.Object:
        column = from_objects(column.to_list())
    if column.dtype.is_float():
        whole = column.is_finite() & (column == column.floor()) & (column.abs() < 2**63)
        floats = pl.select(pl.when(whole).then(column.cast(pl.Int64, strict=False).cast(pl.String))
                          .otherwise(column.fill_nan(None).cast(pl.String)))  # fmt: skip
        return floats.to_series().alias(column.name)
    if isinstance(column.dtype, pl.List | pl.Array):
        if isinstance(column.dtype.inner, pl.List | pl.Array | pl.Struct):
            return _nested(column)
        return column.cast(pl.List(pl.String)).list.drop_nulls().list.join(", ")
    if isinstance(column.dtype, pl.Struct):
        return _nested(column)
    if column.dtype == pl.Binary:
        texts = [None if value is None else value.decode(errors="replace") for value in column.to_list()]
        return pl.Series(column.name, texts, dtype=pl.String)
    return column.cast(pl.String)


def _nested(column: pl.Series) -> pl.Series:
    flat = [None if value is None else flat_text(value) for value in column.to_list()]
    return pl.Series(column.name, flat, dtype=pl.String)


def as_ids(column: pl.Series) -> pl.Series:
    """External ids as text; null where there is none."""
    texts = as_text(column)
    return texts.set(texts == "", None)


def as_numbers(column: pl.Series) -> pl.Series:
    """Finite numbers, in text also with separators of thousands or a decimal comma; null where a cell is neither.

    A cell such as 1,234 may be either: it is read where other cells of the column show a decimal comma.
    """
    if column.dtype != pl.String:
        numbers = column.cast(pl.Float64, strict=False)
        return numbers.set(~(numbers.abs() <= _LARGEST), None)
    texts = column.str.strip_chars()
    numbers = texts.cast(pl.Float64, strict=False)
    if numbers.null_count() > texts.null_count():
        numbers = numbers.zip_with(numbers.is_not_null(), _with_separators(texts))
    return numbers.set(~(numbers.abs() <= _LARGEST), None)


def as_exact_numbers(column: pl.Series) -> pl.Series:
    """Numbers as of `as_numbers`; integers where all are whole, and their texts where 64 bits do not hold these."""
    numbers = as_numbers(column)
    if column.dtype.is_float() or (isinstance(column.dtype, pl.Decimal) and column.dtype.scale):
        return numbers
    long = column.cast(pl.Int128, strict=False)
    if long.null_count() > numbers.null_count():
        return numbers
    whole = long.cast(pl.Int64, strict=False)
    return whole if whole.null_count() == long.null_count() else as_text(column)


_LARGEST = 1e38  # of float32, in which ratings are kept


def _with_separators(texts: pl.Series) -> pl.Series:
    text, bare = pl.col("text"), pl.col("text").str.replace_all(",", "", literal=True)
    dotless = pl.col("text").str.replace_all(".", "", literal=True).str.replace(",", ".", literal=True)
    comma = texts.str.contains(r"^[+-]?\d+,\d+$")
    told = bool((comma & ~texts.str.contains(r"^[+-]?\d{1,3},\d{3}$")).any())
    numbers = (
        pl.when(text.str.contains(r"^[+-]?\d{1,3}((,\d{3})+\.\d+|(,\d{3}){2,})$")).then(bare)
        .when(text.str.contains(r"^[+-]?\d{1,3}((\.\d{3})+,\d+|(\.\d{3}){2,})$")).then(dotless)
        .when(pl.lit(told) & text.str.contains(r"^[+-]?\d+,\d+$")).then(text.str.replace(",", ".", literal=True))
    )  # fmt: skip
    return texts.to_frame("text").select(numbers.cast(pl.Float64, strict=False)).to_series()


def as_weights(column: pl.Series) -> pl.Series:
    """Numbers above 0 that float32 holds; null where the cell holds anything else."""
    numbers = as_numbers(column)
    return numbers.set(~numbers.is_between(1e-30, 1e30), None)


def as_rows(column: pl.Series) -> pl.Series:
    """Whole numbers from 0 on; null where the cell holds anything else."""
    numbers = as_numbers(column)
    whole = (numbers >= 0) & (numbers < 2**31 - 1) & (numbers == numbers.floor())
    return numbers.set(~whole, None).cast(pl.Int64)


def is_numeric(column: pl.Series) -> bool:
    """Whether every cell that is not empty holds a number."""
    if column.dtype != pl.String:
        return column.dtype.is_numeric()
    filled = column.filter(column.is_not_null() & (column != ""))
    return len(filled) > 0 and filled.cast(pl.Float64, strict=False).null_count() == 0


def as_item_text(column: pl.Series, list_separator: str) -> pl.Series:
    """Texts, "" where there is none; a list such as "A|B|C" becomes "A, B, C"."""
    texts = as_text(column).fill_null("")
    if not list_separator or not texts.str.contains(list_separator, literal=True).any():
        return texts
    parts = texts.str.split(list_separator).list.eval(pl.element().str.strip_chars())
    joined = parts.list.eval(pl.element().filter(pl.element() != "")).list.join(", ")
    listed = texts.str.contains(list_separator, literal=True)
    return texts.to_frame("text").select(pl.when(listed).then(joined).otherwise(pl.col("text"))).to_series()
