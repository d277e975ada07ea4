"""Interactions cleaned and joined with a catalog."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import polars as pl

from lmm4rec.core.errors import DataError
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.findings import Finding
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.sources._columns import as_ids, as_numbers, as_text, as_weights, parse_column
from lmm4rec.data.sources._ids import distinct_ids, meet, why_unknown, with_odd_ids
from lmm4rec.data.sources._times import parse_times
from lmm4rec.data.table import Table


def clean_log(
    table: Table, user: str, item: str, rating: str | None, timestamp: str | None, weight: str | None = None
) -> Table:
    """The log: user, item and, where there are such, rating, timestamp and weight; bad rows are set aside."""
    named = {"rating": rating, "timestamp": timestamp, "weight": weight}
    names = {"user": table.require(user, "user ids"), "item": table.require(item, "item ids")}
    for name, given in named.items():
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
    return table.filled()


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


def _rows(ids: pl.Series, known: pl.Series) -> pl.Series:
    """The position of each id among the known ones; null where it is unknown."""
    positions = known.to_frame("id").with_row_index("row")
    joined = ids.to_frame("id").join(positions, on="id", how="left", maintain_order="left")
    return joined["row"].cast(pl.Int32)
