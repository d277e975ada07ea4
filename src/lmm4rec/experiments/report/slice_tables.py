"""The tables of slices: quality on parts of the items and of the users, and the exposure of catalog fields."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from lmm4rec.evaluation.slices import BY_POPULARITY, USERS
from lmm4rec.experiments.report.finished_runs import Design, DesignGroup
from lmm4rec.experiments.report.number_formats import metric_name, percent
from lmm4rec.experiments.report.tables import (
    NumberColumn,
    ReportTable,
    TableCell,
    beyond_table,
    by_design,
    metric_column,
)


def study_details(group: DesignGroup, metric: str, *, named: bool) -> list[ReportTable]:
    """Measures beyond accuracy, slices and exposure of every design, with standard errors over seeds.

    The titles have that of the group where they are to be `named`.
    """
    designs = group.best_first(f"test.{metric}")
    tables = [
        beyond_table(designs, k=metric.partition("@")[2], errors=True),
        slice_table(group, metric, errors=True),
        *slice_tables(designs, metric, errors=True),
        *exposure_tables(designs, errors=True),
    ]
    if any(len(design.runs) > 1 for design in designs):
        tables = [replace(one, caption=f"{one.caption}; {_ERRORS}" if one.caption else _ERRORS) for one in tables]
    if named:
        tables = [replace(one, title=f"{one.title}, {group.title}") for one in tables]
    return [table for table in tables if table.rows and len(table.heads) > 1]


_ERRORS = "mean ± standard error over seeds"


def slice_table(group: DesignGroup, metric: str, *, errors: bool = False) -> ReportTable:
    """The test metric on each slice of the items by popularity."""
    columns = [metric_column(name.capitalize(), f"slices.{name}.{metric}") for name in BY_POPULARITY]
    caption = f"test {metric_name(metric)} by slice of the items"
    return by_design("Warm and cold items", caption, group.best_first(f"test.{metric}"), columns, errors=errors)


def slice_tables(designs: Sequence[Design], metric: str, *, errors: bool = False) -> list[ReportTable]:
    """The test metric by the users' number of interactions, and by the values of each field of the catalog."""
    names = dict.fromkeys(name for d in designs for run in d.runs for name in run.measured.slices)
    by_kind: dict[str, list[NumberColumn]] = {}
    for name in names:
        kind, found, value = name.partition(": ")
        if found:
            by_kind.setdefault(kind, []).append(metric_column(value, f"slices.{name}.{metric}"))
    captions = {USERS: f"test {metric_name(metric)} by the number of a user's training interactions"}
    titles = {USERS: "Active users"}
    return [
        by_design(
            titles.get(kind, f"By {kind}"), captions.get(kind, f"test {metric_name(metric)} on items of each {kind}"),
            designs, columns, errors=errors,
        )
        for kind, columns in by_kind.items()
    ]  # fmt: skip


def exposure_tables(designs: Sequence[Design], *, errors: bool = False) -> list[ReportTable]:
    """The share of each value of a field in the catalog, in the interactions and in every design's lists."""
    tables = []
    for name, values in designs[0].runs[0].measured.exposure.items():
        rows = []
        for value, shares in values.items():
            numbers = [TableCell(percent(shares[part]), shares[part]) for part in ("catalog", "interactions")]
            own = [_share(design, f"exposure.{name}.{value}.lists", errors=errors) for design in designs]
            rows.append([TableCell(value or "none"), *numbers, *own])
        heads = [name, "Catalog", "Interactions", *(design.label for design in designs)]
        tables.append(
            ReportTable(f"Exposure by {name}", "shares of the items, of training and of the lists", heads, rows)
        )
    return tables


def _share(design: Design, key: str, *, errors: bool) -> TableCell:
    mean, error = design.mean(key), design.error(key)
    spread = f" ± {percent(error)}" if errors and math.isfinite(error) else ""
    return TableCell(percent(mean) + spread if math.isfinite(mean) else "–", mean)
