"""Interactions cleaned and joined with a catalog."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from lmm4rec.core.errors import DataError
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.findings import Finding, counted
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.sources._columns import as_ids, as_numbers, as_weights, parse_column, with_met_ids, without_point_zero
from lmm4rec.data.sources._times import parse_times
from lmm4rec.data.table import Table


def clean_log(
    table: Table, user: str, item: str, rating: str | None, timestamp: str | None, weight: str | None = None
) -> Table:
    """The log: user, item and, where there are such, rating, timestamp and weight; bad rows are set aside."""
    names = {"user": table.require(user, "user ids"), "item": table.require(item, "item ids")}
    for name, given in (("rating", rating), ("timestamp", timestamp), ("weight", weight)):
        if given is not None:
            names[name] = table.require(given, f"{name}s")
        elif name in table.frame.columns:
            names[name] = name
    table = replace(table, frame=pl.DataFrame({name: table.frame[column] for name, column in names.items()}))
    table = parse_column(table, "user", as_ids, "they have no user id")
    table = parse_column(table, "item", as_ids, "they have no item id")
    table = _meet(table, "user", without_point_zero(table.frame["user"].unique()))
    if "rating" in names:
        table = parse_column(table, "rating", as_numbers, "their rating is not a number")
    if "timestamp" in names:
        table = parse_times(table, "timestamp")
    if "weight" in names:
        table = parse_column(table, "weight", as_weights, "their weight is not a number above 0")
    return table.filled()


def join(name: str, log: Table, catalog: Catalog, findings: tuple[Finding, ...]) -> Dataset:
    """The data set of a cleaned log and a catalog; interactions of unknown items are set aside.

    Raises:
        DataError: no interaction is of an item of the catalog.
    """
    known = pl.Series(list(catalog.ids), dtype=pl.String)
    log = _meet(log, "item", known)
    ids = log.frame["item"]
    log = log.with_column("item", _rows(ids, known))
    unknown = log.frame["item"].is_null().to_numpy()
    if unknown.all():
        raise DataError(
            f"no interaction of {log.label} has an item of the catalog: the log has items such as '{ids[0]}', "
            f"the catalog such as '{known[0]}'"
        )
    why = "their item is not in the table of items"
    log = log.set_aside(unknown, "unknown-item", why, lambda at: f"item {ids[at]}")
    frame = log.frame
    users = frame["user"].unique(maintain_order=True)
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
        findings=(*log.findings, *findings),
    )


def _meet(log: Table, column: str, known: pl.Series) -> Table:
    """The log with ids such as 7.0 replaced by the known 7, and a finding."""
    ids = log.frame[column]
    met = with_met_ids(ids, known)
    changed = (met != ids).arg_true()
    if not len(changed):
        return log
    examples = tuple(f"{log.label} row {log.rows[at]}: {ids[at]}, read as {met[at]}" for at in changed[:10])
    message = f"{counted(len(changed), f'{column} id')} of {log.label} are read as the same number with or without .0"
    finding = Finding("ids-with-point-zero", "warning", len(changed), message, examples)
    return replace(log.with_column(column, met), findings=(*log.findings, finding))


def _rows(ids: pl.Series, known: pl.Series) -> pl.Series:
    """The position of each id among the known ones; null where it is unknown."""
    positions = known.to_frame("id").with_row_index("row")
    joined = ids.to_frame("id").join(positions, on="id", how="left", maintain_order="left")
    return joined["row"].cast(pl.Int32)
