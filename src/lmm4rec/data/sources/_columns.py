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
        whole = column.is_finite() & (column == column.floor())
        texts = pl.select(pl.when(whole).then(column.cast(pl.Int64, strict=False).cast(pl.String))
                          .otherwise(column.fill_nan(None).cast(pl.String)))  # fmt: skip
        return texts.to_series().alias(column.name)
    if isinstance(column.dtype, pl.List | pl.Array):
        if isinstance(column.dtype.inner, pl.List | pl.Array | pl.Struct):
            return _nested(column)
        return column.cast(pl.List(pl.String)).list.drop_nulls().list.join(", ")
    if isinstance(column.dtype, pl.Struct):
        return _nested(column)
    return column.cast(pl.String)


def _nested(column: pl.Series) -> pl.Series:
    texts = [None if value is None else flat_text(value) for value in column.to_list()]
    return pl.Series(column.name, texts, dtype=pl.String)


def as_ids(column: pl.Series) -> pl.Series:
    """External ids as text; null where there is none."""
    texts = as_text(column)
    return texts.set(texts == "", None)


def without_point_zero(ids: pl.Series) -> pl.Series:
    """The ids but "7.0" where "7" is among them too."""
    twins = ids.str.contains(r"^-?\d+\.0+$")
    return ids.filter(~twins | ~ids.str.replace(r"\.0+$", "").is_in(ids.implode())) if twins.any() else ids


def with_met_ids(ids: pl.Series, known: pl.Series) -> pl.Series:
    """The ids, where "7.0" is "7" (or "7" is "7.0") if only that is among the known ones.

    A program that keeps whole numbers in a column with gaps writes them as 7.0.
    """
    unknown = ~ids.is_in(known.implode())
    if not unknown.any():
        return ids
    numbered = ids.str.contains(r"^-?\d+(\.0+)?$")
    if not (unknown & numbered).any():
        return ids
    bare = known.to_frame("known").with_columns(bare=pl.col("known").str.replace(r"\.0+$", ""))
    bare = bare.filter(pl.col("known").str.contains(r"^-?\d+(\.0+)?$")).unique("bare", keep="none")
    joined = ids.str.replace(r"\.0+$", "").to_frame("bare").join(bare, on="bare", how="left", maintain_order="left")
    return ids.zip_with(~(unknown & numbered & joined["known"].is_not_null()), joined["known"]).alias(ids.name)


def as_numbers(column: pl.Series) -> pl.Series:
    """Finite numbers; null where the cell holds anything else."""
    texts = column.dtype == pl.String
    numbers = (column.str.strip_chars() if texts else column).cast(pl.Float64, strict=False)
    return numbers.set(~numbers.is_finite(), None)


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
