"""Ids that meet although programs wrote them differently, and findings on ids that may be none."""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from lmm4rec.data.findings import Finding, counted
from lmm4rec.data.table import Table

_AROUND = (
    " \t\r\n\v\f\u00a0\u3000\ufeff\u200b\u200e\u200f\u2060\u202a\u202b\u202c\u202d\u202e"  # spaces, invisible marks
)
_POINT_ZERO = r"^-?\d+\.0+$"
_CHANGEABLE = r"[^\x21-\x7e]|\.0+$"  # what an id has that `_keys` may change
_SHORTENED = r"^\d(\.\d+)?E\+\d+$"
_NOTHING = r"(?i)^(nan|null|none|n/a|#n/a|na|<na>|nat|nil|undefined)$"


def distinct_ids(ids: pl.Series) -> pl.Series:
    """The ids but those such as "7.0" or "a " where "7" or "a" is among them too."""
    keys = _keys(ids)
    return ids.filter((keys == ids) | ~keys.is_in(ids.implode()))


def with_met_ids(ids: pl.Series, known: pl.Series) -> pl.Series:
    """The ids, where one that is unknown is a known one but for .0, spaces around it or its Unicode form.

    A program that keeps whole numbers in a column with gaps writes them as 7.0; spreadsheets and databases of fixed
    width add spaces; a Mac writes é as two characters. An id that may be two known ones stays as it is.
    """
    unknown = ~ids.is_in(known.implode())
    if not unknown.any():
        return ids
    by_key = pl.DataFrame({"known": known, "key": _keys(known)}).unique("key", keep="none")
    joined = _keys(ids).to_frame("key").join(by_key, on="key", how="left", maintain_order="left")
    return ids.zip_with(~(unknown & joined["known"].is_not_null()), joined["known"]).alias(ids.name)


def _keys(ids: pl.Series) -> pl.Series:
    if not ids.str.contains(_CHANGEABLE).any():
        return ids
    bare = ids.str.strip_chars(_AROUND).str.normalize("NFC")
    return bare.zip_with(~bare.str.contains(_POINT_ZERO), bare.str.replace(r"\.0+$", ""))


def meet(log: Table, column: str, known: pl.Series) -> Table:
    """The log with ids such as "7.0" or "a " replaced by the known "7" and "a", and findings."""
    ids = log.frame[column]
    met = with_met_ids(ids, known)
    changed = met != ids
    if not changed.any():
        return log
    numbered = changed & (ids.str.replace(r"\.0+$", "") == met.str.replace(r"\.0+$", ""))
    findings = []
    for kind, mask, how in (
        ("ids-with-point-zero", numbered, "the same number with or without .0"),
        (
            "ids-respelled",
            changed & ~numbered,
            "the known id that differs in spaces around it or in Unicode form alone",
        ),
    ):
        rows = mask.arg_true()
        shown = repr if kind == "ids-respelled" else str
        examples = tuple(
            f"{log.label} row {log.rows[at]}: {shown(ids[at])}, read as {shown(met[at])}" for at in rows[:10]
        )
        message = f"{counted(len(rows), f'{column} id')} of {log.label}, read as {how}"
        findings += [Finding(kind, "warning", len(rows), message, examples)] if len(rows) else []
    return replace(log.with_column(column, met), findings=(*log.findings, *findings))


def with_odd_ids(log: Table, column: str) -> Table:
    """The log with findings on ids that a spreadsheet shortened, and on words for a missing id."""
    ids = log.frame[column]
    findings = []
    for kind, pattern, why in (
        (
            "shortened-ids",
            _SHORTENED,
            "numbers that a spreadsheet shortened, so that several may be one now: export the column as text",
        ),
        (
            "ids-of-nothing",
            _NOTHING,
            "words for a missing value, which count as ids: leave these rows out if they are none",
        ),
    ):
        rows = ids.str.contains(pattern).arg_true()
        examples = tuple(f"{log.label} row {log.rows[at]}: {ids[at]}" for at in rows[:10])
        message = f"{counted(len(rows), f'{column} id')} of {log.label}: {why}"
        findings += [Finding(kind, "warning", len(rows), message, examples)] if len(rows) else []
    return replace(log, findings=(*log.findings, *findings))


def why_unknown(ids: pl.Series, known: pl.Series) -> str:
    """A hint on why no id of a log is among the known ones, "" where none is seen."""
    for differ, change in (("leading zeros, which spreadsheets drop: export both columns as text", _without_zeros),
                           ("upper and lower case", lambda column: column.str.to_lowercase())):  # fmt: skip
        if change(ids).is_in(change(known).implode()).any():
            return f". They differ in {differ}"
    if ids.str.contains(r"^\d(\.\d+)?[eE]\+?\d+$").any():
        return ". The log's are in scientific notation, as a spreadsheet writes long numbers: export the column as text"
    return ""


def _without_zeros(ids: pl.Series) -> pl.Series:
    return ids.str.strip_chars_start("0")
