"""Interactions cleaned and joined with a catalog."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.findings import Finding, counted
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.negative_signals import NEGATIVE_KINDS, POSITIVE_KINDS, NegativeSignals
from lmm4rec.data.sources._columns import as_ids, as_numbers, as_text, as_weights, parse_column
from lmm4rec.data.sources._ids import distinct_ids, meet, why_unknown, with_odd_ids
from lmm4rec.data.sources._times import parse_times
from lmm4rec.data.table import Table


@dataclass(frozen=True)
class Kinds:
    """What the column of kinds may hold; None: the column `kind` where there is one, empty: none."""

    column: str | None = None
    positive: Sequence[str] = POSITIVE_KINDS
    negative: Sequence[str] = NEGATIVE_KINDS


def clean_log(
    table: Table,
    user: str,
    item: str,
    rating: str | None,
    timestamp: str | None,
    weight: str | None = None,
    kinds: Kinds | None = None,
) -> Table:
    """The log: user, item and, where there are such, rating, timestamp, weight and kind; bad rows are set aside.

    The column `kind` is null where an interaction is positive, and names the kind of a negative signal. Without
    `kinds` it is not read.

    Raises:
        DataError: a column is missing, nothing is left, or a kind is neither positive nor negative.
        ConfigError: a kind is both.
    """
    named = {"rating": rating, "timestamp": timestamp, "weight": weight}
    names = {"user": table.require(user, "user ids"), "item": table.require(item, "item ids")}
    optional = named if kinds is None or kinds.column == "" else {**named, "kind": kinds.column}
    for name, given in optional.items():
        if given is not None:
            names[name] = table.require(given, f"{name}s")
        elif name in table.frame.columns:
            names[name] = name
    table = replace(table, frame=pl.DataFrame({name: table.frame[column] for name, column in names.items()}))
    table = parse_column(table, "user", as_ids, "they have no user id")
    table = parse_column(table, "item", as_ids, "they have no item id")
    table = meet(table, "user", distinct_ids(table.frame["user"].unique()))
    table = with_odd_ids(with_odd_ids(table, "user"), "item").filled()
    for name, given in named.items():
        if name in names:
            parsed = _PARSERS[name](table)
            unused = not len(parsed) and given is None and not as_text(table.frame[name]).str.contains(r"\d").any()
            table = _without(table, name) if unused else parsed.filled()
    return _with_kinds(table, kinds).filled() if kinds is not None and "kind" in names else table.filled()


def _with_kinds(table: Table, kinds: Kinds) -> Table:
    """The table whose column `kind` is null for positive interactions; an empty cell is one, which a note counts."""
    positive, negative = ([name.strip().lower() for name in names] for names in (kinds.positive, kinds.negative))
    if both := sorted(set(positive) & set(negative)):
        raise ConfigError(
            f"the kind '{both[0]}' is in data.positive_kinds and in data.negative_kinds; take it from one"
        )
    cells = as_text(table.frame["kind"]).str.strip_chars().str.to_lowercase()
    empty = cells.is_null() | (cells == "")
    unknown = cells.filter(~empty & ~cells.is_in([*positive, *negative])).unique(maintain_order=True).to_list()
    if unknown:
        shown = ", ".join(f"'{name}'" for name in unknown[:10])
        raise DataError(
            f"the column '{kinds.column or 'kind'}' of {table.label} has unknown kinds: {shown}. Name each in "
            f"data.positive_kinds (now {', '.join(positive)}) or data.negative_kinds (now {', '.join(negative)}), or "
            'read no kinds with data.kind_column = ""'
        )
    if empty.any():
        message = f"{counted(int(empty.sum()), 'row')} of {table.label} without a kind count as positive interactions"
        table = replace(table, findings=(*table.findings, Finding("no-kind", "note", int(empty.sum()), message)))
    return table.with_column("kind", cells.set(~cells.is_in(negative).fill_null(value=False), None))


_PARSERS: Mapping[str, Callable[[Table], Table]] = {
    "rating": lambda table: parse_column(table, "rating", as_numbers, "their rating is not a number"),
    "timestamp": lambda table: parse_times(table, "timestamp"),
    "weight": lambda table: parse_column(table, "weight", as_weights, "their weight is not a number above 0"),
}


def _without(table: Table, name: str) -> Table:
    """The table without a column that nobody named, and in which no cell has so much as a digit."""
    cells = table.frame[name]
    examples = tuple(
        f"{table.label} row {table.rows[at]}: {name} is {cells[at]!r}" for at in range(min(10, len(table)))
    )
    message = f"no cell of the column '{name}' of {table.label} can be read as a {name}; the column is not used"
    finding = Finding(f"unused-{name}", "warning", len(table), message, examples)
    return replace(table, frame=table.frame.drop(name), findings=(*table.findings, finding))


def join(name: str, log: Table, catalog: Catalog, findings: tuple[Finding, ...]) -> Dataset:
    """The data set of a cleaned log and a catalog; interactions of unknown items are set aside.

    Raises:
        DataError: no interaction is of an item of the catalog.
    """
    known = pl.Series(list(catalog.ids), dtype=pl.String)
    log = meet(log, "item", known)
    ids = log.frame["item"]
    log = log.with_column("item", _rows(ids, known))
    unknown = log.frame["item"].is_null().to_numpy()
    if unknown.all():
        raise DataError(
            f"no interaction of {log.label} has an item of the catalog: the log has items such as '{ids[0]}', "
            f"the catalog such as '{known[0]}'{why_unknown(ids, known)}"
        )
    why = "their item is not in the table of items"
    log = log.set_aside(unknown, "unknown-item", why, lambda at: f"item {ids[at]}")
    log, signals = _without_signals(log)
    frame = log.frame
    users = frame["user"].unique(maintain_order=True)
    negatives, without_user = _negatives(signals, users)
    return Dataset(
        name=name,
        users=Vocabulary(users.to_list(), kind="user"),
        catalog=catalog,
        interactions=Interactions(
            users=_rows(frame["user"], users).to_numpy(),
            items=frame["item"].to_numpy(),
            ratings=frame["rating"].to_numpy().astype(np.float32) if "rating" in frame.columns else None,
            timestamps=frame["timestamp"].to_numpy() if "timestamp" in frame.columns else None,
            labels=frame["label"].to_numpy().astype(np.int8) if "label" in frame.columns else None,
            weights=frame["weight"].to_numpy().astype(np.float32) if "weight" in frame.columns else None,
        ),
        findings=(*log.findings, *without_user, *findings),
        negatives=negatives,
    )


def _without_signals(log: Table) -> tuple[Table, pl.DataFrame]:
    """The positive rows of a log, and its negative signals.

    Raises:
        DataError: no row is positive.
    """
    if "kind" not in log.frame.columns:
        return log, pl.DataFrame()
    positive = log.frame["kind"].is_null()
    if not positive.any():
        raise DataError(f"{log.label} has no positive interaction, only {counted(len(log), 'negative signal')}")
    kept = positive.to_numpy()
    rows, records = log.rows[kept], log.records[kept]
    return replace(log, frame=log.frame.filter(positive), rows=rows, records=records), log.frame.filter(~positive)


def _negatives(signals: pl.DataFrame, users: pl.Series) -> tuple[NegativeSignals, tuple[Finding, ...]]:
    """The negative signals of users with a positive interaction, and a finding on those of others."""
    if not signals.height:
        return NegativeSignals(), ()
    rows = _rows(signals["user"], users)
    lost, findings = signals["user"].filter(rows.is_null()), tuple[Finding, ...]()
    if len(lost):
        examples = tuple(f"user {name}" for name in lost.unique(maintain_order=True)[:10])
        message = f"{counted(len(lost), 'negative signal')} left out: their user has no positive interaction"
        findings = (Finding("negative-only-user", "note", len(lost), message, examples),)
    signals, rows = signals.filter(rows.is_not_null()), rows.drop_nulls()
    names = signals["kind"].unique(maintain_order=True)
    return NegativeSignals(
        rows.to_numpy(),
        signals["item"].to_numpy(),
        _rows(signals["kind"], names).cast(pl.Int8).to_numpy(),
        tuple(names.to_list()),
        signals["timestamp"].to_numpy() if "timestamp" in signals.columns else None,
    ), findings


def _rows(ids: pl.Series, known: pl.Series) -> pl.Series:
    """The position of each id among the known ones; null where it is unknown."""
    positions = known.to_frame("id").with_row_index("row")
    joined = ids.to_frame("id").join(positions, on="id", how="left", maintain_order="left")
    return joined["row"].cast(pl.Int32)


def usual_id_column(table: Table, kind: str) -> str:
    """The usual name of a column of ids; the short one is that of exported interactions."""
    return kind if kind in table.frame.columns and f"{kind}_id" not in table.frame.columns else f"{kind}_id"
