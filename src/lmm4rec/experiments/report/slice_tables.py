"""The tables of slices: quality on parts of the items and of the users, and the exposure of catalog fields."""

from __future__ import annotations

from collections.abc import Sequence

from lmm4rec.evaluation.slices import BY_POPULARITY, USERS
from lmm4rec.experiments.report.finished_runs import Design, DesignGroup
from lmm4rec.experiments.report.number_formats import metric_name, percent
from lmm4rec.experiments.report.tables import NumberColumn, ReportTable, TableCell, by_design, metric_column


def slice_table(group: DesignGroup, metric: str) -> ReportTable:
    """The test metric on each slice of the items by popularity."""
    columns = [metric_column(name.capitalize(), f"slices.{name}.{metric}") for name in BY_POPULARITY]
    caption = f"test {metric_name(metric)} by slice of the items"
    return by_design("Warm and cold items", caption, group.best_first(f"test.{metric}"), columns)


def slice_tables(designs: Sequence[Design], metric: str) -> list[ReportTable]:
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
            designs, columns,
        )
        for kind, columns in by_kind.items()
    ]  # fmt: skip


def exposure_tables(designs: Sequence[Design]) -> list[ReportTable]:
    """The share of each value of a field in the catalog, in the interactions and in every design's lists."""
    tables = []
    for name, values in designs[0].runs[0].measured.exposure.items():
        rows = []
        for value, shares in values.items():
            own = (d.mean(f"exposure.{name}.{value}.lists") for d in designs)
            numbers = (shares["catalog"], shares["interactions"], *own)
            rows.append([TableCell(value or "none"), *(TableCell(percent(number), number) for number in numbers)])
        heads = [name, "Catalog", "Interactions", *(design.label for design in designs)]
        tables.append(
            ReportTable(f"Exposure by {name}", "shares of the items, of training and of the lists", heads, rows)
        )
    return tables
