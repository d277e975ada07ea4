"""Columns parsed as unix seconds: each cell by its own form, and findings where forms are mixed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from lmm4rec.data.findings import Finding, agreeing, counted
from lmm4rec.data.iso_times import read_moments, with_t
from lmm4rec.data.sources._columns import as_numbers
from lmm4rec.data.table import Table

_OTHER_FORMATS = (
    "%Y/%m/%d", "%Y/%m/%dT%H:%M:%S", "%Y/%m/%dT%H:%M", "%Y.%m.%d", "%d.%m.%Y", "%d.%m.%YT%H:%M:%S", "%d.%m.%YT%H:%M",
)  # fmt: skip
_DAY_FIRST = ("%d/%m/%Y", "%d/%m/%YT%H:%M:%S", "%d/%m/%YT%H:%M", "%d-%m-%Y")
_MONTH_FIRST = ("%m/%d/%Y", "%m/%d/%YT%H:%M:%S", "%m/%d/%YT%H:%M", "%m-%d-%Y")
_UNITS: Mapping[str, tuple[float, int]] = {  # the smallest size that is read in a unit, and such units in a second
    "unix seconds": (0.0, 1),
    "milliseconds": (1e11, 10**3),
    "microseconds": (1e14, 10**6),
    "nanoseconds": (1e17, 10**9),
}
_COMPACT = {  # by the number of digits: what completes it, and its form then
    8: ("0000", "%Y%m%d%H%M"),
    12: ("", "%Y%m%d%H%M"),
    14: ("", "%Y%m%d%H%M%S"),
}
_EARLIEST, _LATEST = -2_208_988_800, 4_133_980_800  # the beginning of 1900, and of 2101
_FEW_BEFORE = 315_532_800  # 1980: logs hold hardly anything older, but compact dates taken for seconds look so


def parse_times(table: Table, column: str) -> Table:
    """The table with a column of unix seconds; rows whose cell is no date or time are set aside.

    Each cell is a number (seconds, milliseconds, microseconds or nanoseconds, judged by its size; or a compact date
    such as 20240131, where such make up the column's early numbers) or a date in text, in UTC unless it names a zone.
    Slashed dates are read day or month first, whichever reads every one of them. A column of several forms, and
    moments before 1900 or after 2100, are findings; where those moments are the lesser part, their rows are set aside.
    """
    raw = table.frame[column]
    moments, forms, swapped = _moments(raw)
    impossible = ((moments < _EARLIEST) | (moments >= _LATEST)).fill_null(False)
    most = bool(impossible.sum() * 2 > len(raw))
    finding = _on_forms(table, raw, forms.set(impossible | moments.is_null(), None))
    if finding is not None:
        table = replace(table, findings=(*table.findings, finding))
    if most:
        count = int(impossible.sum())
        why = f"{counted(count, 'row')} of {table.label} {agreeing(count, 'have')} a {column} before 1900 or after 2100"
        examples = tuple(f"{table.label} row {table.rows[at]}: {raw[at]!r}" for at in impossible.arg_true()[:10])
        odd = Finding(f"impossible-{column}", "warning", int(impossible.sum()), why, examples)
        table = replace(table, findings=(*table.findings, odd))
    table = table.with_column(column, moments)
    unreadable = moments.is_null()
    why = f"their {column} is not a date or time"
    if swapped:
        why += ", or one such as 01/02/2024, which may be read day or month first: write 2024-02-01"
    table = table.set_aside(unreadable.to_numpy(), f"unreadable-{column}", why, lambda at: f"{column} is {raw[at]!r}")
    if most:
        return table
    left, wrong = raw.filter(~unreadable), impossible.filter(~unreadable)
    why = f"their {column} lies before 1900 or after 2100"
    return table.set_aside(wrong.to_numpy(), f"impossible-{column}", why, lambda at: f"{column} is {left[at]!r}")


def _moments(column: pl.Series) -> tuple[pl.Series, pl.Series, bool]:
    """Unix seconds (null: unreadable), the form of each cell, and whether day and month cannot be told apart."""
    if column.dtype.is_temporal():
        whole = column.dtype in (pl.Date, pl.Datetime)
        moments = _epoch(column) if whole else pl.Series([None] * len(column), dtype=pl.Int64)
        return moments, pl.Series(["date"] * len(column), dtype=pl.String), False
    numbers = as_numbers(column)
    moments, forms = _of_numbers(numbers)
    if column.dtype != pl.String or not numbers.null_count():
        return moments, forms, False
    dates, swapped = _of_texts(column.set(numbers.is_not_null(), None))
    frame = pl.DataFrame({"moment": moments, "form": forms, "date": dates})
    form = pl.when(pl.col("date").is_null()).then(pl.col("form")).otherwise(pl.lit("dates"))
    frame = frame.select(pl.coalesce("moment", "date"), form.alias("form"))
    return frame["moment"], frame["form"], swapped


def _of_numbers(numbers: pl.Series) -> tuple[pl.Series, pl.Series]:
    size = pl.col("n").abs()
    seconds, form = pl.col("n"), pl.lit("unix seconds")
    for name, (least, divisor) in _UNITS.items():
        seconds = pl.when(size >= least).then(pl.col("n") / divisor).otherwise(seconds)
        form = pl.when(size >= least).then(pl.lit(name)).otherwise(form)
    digits = pl.col("n").cast(pl.Int64, strict=False).cast(pl.String)
    whole = pl.col("n") == pl.col("n").floor()
    compact = pl.coalesce(
        pl.when(whole & (digits.str.len_chars() == count)).then(
            (digits + midnight).str.to_datetime(layout, strict=False, time_zone="UTC")
        )
        for count, (midnight, layout) in _COMPACT.items()
    )
    possible = compact.dt.year().is_between(1900, 2100)
    frame = numbers.to_frame("n").select(
        seconds.floor().cast(pl.Int64, strict=False).alias("moment"),
        form.alias("form"),
        pl.when(possible).then(compact.dt.epoch("s")).alias("compact"),
        (digits.str.len_chars() == 14).alias("long"),
    )
    early = pl.col("moment").is_not_null() & (pl.col("moment") < _FEW_BEFORE)
    of_early = frame.filter(early)
    is_compact = pl.col("compact").is_not_null()
    if len(of_early) and of_early["compact"].is_not_null().mean() >= 0.9:  # type: ignore[operator]
        use, refuse = is_compact & (early | pl.col("long")), early & ~is_compact
    else:
        use, refuse = is_compact & pl.col("long"), pl.lit(False)  # as milliseconds these lie beyond the year 2500
    frame = frame.select(
        pl.when(use).then("compact").when(refuse).then(None).otherwise("moment").alias("moment"),
        pl.when(use).then(pl.lit("compact dates")).otherwise("form").alias("form"),
    )
    return frame["moment"], frame["form"]


def _of_texts(column: pl.Series) -> tuple[pl.Series, bool]:
    """The moments of dates in text, and whether some may be read day first as well as month first."""
    text = with_t(pl.col("text"))
    frame = column.to_frame("text").select(
        plain=pl.coalesce(read_moments(text), read_moments(text, _OTHER_FORMATS)),
        day=read_moments(text, _DAY_FIRST),
        month=read_moments(text, _MONTH_FIRST),
    )
    by_day, by_month = (int(frame[name].is_not_null().sum()) for name in ("day", "month"))
    same = int((frame["day"] == frame["month"]).sum())
    if by_day == by_month and same < by_day:
        return _epoch(frame["plain"]), True
    return _epoch(frame.select(pl.coalesce("plain", "day" if by_day > by_month else "month")).to_series()), False


def _on_forms(table: Table, raw: pl.Series, forms: pl.Series) -> Finding | None:
    """A finding where the readable cells have more than one form; its examples name the first rows of each."""
    groups = forms.drop_nulls().value_counts(sort=True)
    if len(groups) < 2:
        return None
    rows = {form: (forms == form).fill_null(False).arg_true().to_list() for form in groups["form"].to_list()}
    numbers = [form for form in rows if form not in ("dates", "compact dates")]
    if len(numbers) == len(rows) and not _lasting(rows, raw):
        return None
    told = ", ".join(f"{len(at):,} {form}" for form, at in rows.items())
    examples = tuple(f"{table.label} row {table.rows[i]}: {raw[i]!r}, of {form}" for form, at in rows.items()
                     for i in at[:2])  # fmt: skip
    message = f"the {raw.name}s of {table.label} are of several forms ({told}); each is read in its own"
    return Finding("mixed-times", "warning", sum(len(at) for at in list(rows.values())[1:]), message, examples[:10])


def _lasting(rows: Mapping[str, list[int]], raw: pl.Series) -> bool:
    """Whether more than zeros, which are the same moment in every unit, are of another unit."""
    return sum(bool((as_numbers(raw.gather(at)) != 0).any()) for at in rows.values()) > 1


def _epoch(times: pl.Series) -> pl.Series:
    return times.dt.epoch("s").cast(pl.Int64)
