"""The tables of every report: rows of cells that a page, a Markdown file and a LaTeX file show alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np

from lmm4rec.evaluation.significance import Comparison
from lmm4rec.evaluation.standard_error import variance_parts
from lmm4rec.experiments.report.design_comparisons import DesignComparison
from lmm4rec.experiments.report.finished_runs import Design, DesignGroup, varying_axes
from lmm4rec.experiments.report.number_formats import (
    companion,
    count,
    megabytes,
    metric_name,
    metric_value,
    number,
    p_value,
    seconds,
)
from lmm4rec.experiments.report.sentences import power_statement


@dataclass(frozen=True)
class TableCell:
    """A cell: its text, the number it sorts by (NaN: none), its rank and its marks."""

    text: str
    value: float = math.nan
    rank: int = 0  # 1 the best of its column, 2 the second best, 0 any other
    stars: str = ""
    note: str = ""  # small print below the text, on pages only
    bar: float = 0.0  # length of a bar below the text, 0 to 1, on pages only


@dataclass(frozen=True)
class ReportTable:
    """A table: a head for each column, and rows of cells; the first columns hold text."""

    title: str
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[TableCell]]
    sorted_by: int = -1  # the column by which the rows are sorted, largest first; -1: none

    @property
    def text_columns(self) -> list[bool]:
        """Whether each column holds text and no numbers."""
        return [all(math.isnan(row[i].value) for row in self.rows) for i in range(len(self.heads))]

    def without_empty_columns(self) -> ReportTable:
        """The table without the columns that hold nothing but dashes."""
        full = [
            i for i in range(len(self.heads)) if not self.rows or any(row[i].text not in ("", "–") for row in self.rows)
        ]
        return replace(
            self,
            heads=[self.heads[i] for i in full],
            rows=[[row[i] for i in full] for row in self.rows],
            sorted_by=full.index(self.sorted_by) if self.sorted_by in full else -1,
        )


class NumberColumn(NamedTuple):
    """A column of one number of each design."""

    head: str
    key: str  # the number's dotted name
    format: Callable[[float], str]
    ranked: bool = False


metric_column = partial(NumberColumn, format=metric_value, ranked=True)


def run_results(group: DesignGroup, metric: str) -> ReportTable:
    """Quality and cost of single runs, best first by test."""
    columns = [
        metric_column(f"{metric_name(metric)} test", f"test.{metric}"),
        metric_column(f"{metric_name(companion(metric))} test", f"test.{companion(metric)}"),
        metric_column(f"{metric_name(metric)} validation", f"valid.{metric}"),
        NumberColumn("Total time", "cost.seconds", seconds),
        NumberColumn("Parameters", "cost.parameters", count),
        NumberColumn("Peak memory", "cost.peak_memory_mb", megabytes),
    ]
    table = by_design("Quality and cost", "of every model", group.best_first(f"test.{metric}"), columns)
    top = max((row[1].value for row in table.rows), default=0.0)
    if len(table.rows) < 2 or not table.heads[1:] or not table.heads[1].endswith(" test"):
        return table
    rows = [[name, replace(best, bar=best.value / top if top > 0 else 0.0), *rest] for name, best, *rest in table.rows]
    return replace(table, rows=rows, sorted_by=1)


def detail_tables(group: DesignGroup, metric: str) -> list[ReportTable]:
    """Tables of beyond-accuracy metrics, every test metric, and cost by phase, where they are not empty."""
    designs = group.best_first(f"test.{metric}")
    tests = dict.fromkeys(key for design in designs for key in design.keys("test."))
    costs = [
        NumberColumn("Training time", "cost.train_seconds", seconds),
        NumberColumn("Feature time", "cost.features_seconds", seconds),
        NumberColumn("Epochs", "chosen.epochs", count),
        NumberColumn("Trainable parameters", "cost.trainable_parameters", count),
        NumberColumn("Items encoded", "cost.items_encoded", count),
        NumberColumn("Encodings in training", "cost.encodings", count),
        NumberColumn("Encodings an epoch", "cost.encodings_per_epoch", count),
        NumberColumn("Trainable in the encoder", "cost.trainable_encoder_parameters", count),
    ]
    tables = [
        beyond_table(designs),
        by_design("Every metric", "on the test set", designs, [metric_column(_metric_of(key), key) for key in tests]),
        by_design("Cost", "by phase", designs, costs),
    ]
    return [table for table in tables if len(table.heads) > 1]


def beyond_table(designs: Sequence[Design], *, k: str = "", errors: bool = False) -> ReportTable:
    """The measures beyond accuracy of lists of length `k`; of all lengths where it is empty."""
    keys = dict.fromkeys(key for design in designs for key in design.keys("beyond.") if key.endswith(f"@{k}" * bool(k)))
    columns = [NumberColumn(_metric_of(key), key, number) for key in keys]
    return by_design("Beyond accuracy", "", designs, columns, errors=errors)


def _metric_of(key: str) -> str:
    return metric_name(key.partition(".")[2])


def by_design(
    title: str, caption: str, designs: Sequence[Design], columns: Iterable[NumberColumn], *, errors: bool = False
) -> ReportTable:
    """A row a design, without the columns of which no design has the number; with `errors` the standard errors."""
    shown = [column for column in columns if any(design.numbers(column.key) for design in designs)]
    cells = [_number_cells(designs, column, errors=errors) for column in shown]
    rows = [[TableCell(d.label, note=_encoder(d)), *row] for d, *row in zip(designs, *cells, strict=True)]
    return ReportTable(title, caption, ["Model", *(column.head for column in shown)], rows)


def _encoder(design: Design) -> str:
    plan = design.runs[0].result.plan
    return f"{plan.encoder_label} · {plan.features.label}" if design.uses_content else "no content"


def _number_cells(designs: Sequence[Design], column: NumberColumn, *, errors: bool) -> list[TableCell]:
    """A cell for each design; of a ranked column with the deviation over seeds and the two best marked.

    With `errors` every column has the standard error of the mean over seeds in its place.
    """
    values = [design.numbers(column.key) for design in designs]
    means = [float(np.mean(of_seeds)) if of_seeds else math.nan for of_seeds in values]
    texts = [column.format(mean) if math.isfinite(mean) else "–" for mean in means]
    # values that are written alike share a rank
    best = sorted({round(mean, 4) for mean in means if math.isfinite(mean)}, reverse=True)[: 2 if column.ranked else 0]
    cells = []
    for design, of_seeds, mean, text in zip(designs, values, means, texts, strict=True):
        spread = ""
        if len(of_seeds) > 1 and (errors or column.ranked):
            spread = f" ± {column.format(design.error(column.key)) if errors else f'{np.std(of_seeds, ddof=1):.4f}'}"
        rank = best.index(round(mean, 4)) + 1 if len(best) > 1 and round(mean, 4) in best else 0
        cells.append(TableCell(text + spread, mean, rank))
    return cells


def study_results(group: DesignGroup, comparisons: Sequence[DesignComparison], metric: str) -> ReportTable:
    """Quality and cost of every design, best first by test; stars mark the designs that differ from the reference."""
    designs = group.best_first(f"test.{metric}")
    axes = varying_axes([{a: value for a, value in design.axes.items() if a != "data"} for design in designs])
    stars = {comparison.first.label: comparison.stars for comparison in comparisons}
    columns = [
        metric_column(metric_name(metric), f"test.{metric}"),
        metric_column(metric_name(companion(metric)), f"test.{companion(metric)}"),
        metric_column(f"{metric_name(metric)} valid", f"valid.{metric}"),
        metric_column(f"{metric_name(metric)} cold", f"slices.cold.{metric}"),
        NumberColumn("Training", "cost.train_seconds", seconds),
        NumberColumn("Encodings an epoch", "cost.encodings_per_epoch", count),
        NumberColumn("Memory", "cost.peak_memory_mb", megabytes),
        NumberColumn("Parameters", "cost.parameters", count),
        NumberColumn("Trainable", "cost.trainable_parameters", count),
    ]
    table = by_design(group.title, "", designs, columns)
    rows = []
    for design, (_, first, *rest) in zip(designs, table.rows, strict=True):
        names = (TableCell(design.axes.get(axis, "–")) for axis in axes)
        seeds = TableCell("any" if design.is_deterministic else str(len(design.runs)), len(design.runs))
        rows.append([*names, replace(first, stars=stars.get(design.label, "")), *rest, seeds])
    caption = "Test, mean ± standard deviation over seeds"
    if any(comparison.comparison.sees_seeds for comparison in comparisons):
        base = comparisons[0].second.label
        caption += f"; *, **, ***: differs from {base} with p < 0.05, 0.01, 0.001 (t-test over users and seeds, Holm)"
    if any(design.is_deterministic for design in designs):
        caption += "; any: the same under every seed"
    if any(design.lacks_seeds for design in designs):
        caption += "; one seed: no star, since another could change the order"
    table = ReportTable(group.title, caption + ".", [*axes, *table.heads[1:], "Seeds"], rows, sorted_by=len(axes))
    return table.without_empty_columns()


def alignment_table(group: DesignGroup) -> ReportTable:
    """Alignment of the image and text vectors in the features; of a trained encoder after and before training."""
    names = [key.rpartition(".")[2] for design in group.designs for key in design.keys("alignment.")]
    measures = [name for name in dict.fromkeys(names) if name != "pairs"]
    rows: dict[tuple[str, ...], list[TableCell]] = {}
    for design in group.designs:
        pairs = [(_alignment(design, "after", name), _alignment(design, "before", name)) for name in measures]
        if any(math.isfinite(after) for after, _ in pairs):
            axes = {axis: value for axis, value in design.axes.items() if axis != "recommender"}
            label = " · ".join(value for axis, value in axes.items() if axis not in ("data", "protocol"))
            cells = [TableCell(label or group.title), *(_change(*pair) for pair in pairs)]
            rows.setdefault(tuple(axes.values()), cells)
    heads = ["Features", *(metric_name(name) for name in measures)]
    caption = "Of the features, measured on pairs of image and text of one item"
    caption += "; in brackets: before training." if any(d.keys("alignment.before.") for d in group.designs) else "."
    return ReportTable(f"Alignment, {group.title}", caption, heads, _joined(rows.values()))


def _joined(rows: Iterable[list[TableCell]]) -> list[list[TableCell]]:
    """The rows, those with the same numbers as one whose name joins theirs: frozen features of several models."""
    alike: dict[tuple[str, ...], list[list[TableCell]]] = {}
    for row in rows:
        alike.setdefault(tuple(cell.text for cell in row[1:]), []).append(row)
    return [[TableCell("; ".join(row[0].text for row in same)), *same[0][1:]] for same in alike.values()]


def _alignment(design: Design, when: str, name: str) -> float:
    if when == "after" and design.numbers(f"alignment.{name}"):
        return design.mean(f"alignment.{name}")
    return design.mean(f"alignment.{when}.{name}")


def _change(after: float, before: float) -> TableCell:
    text = f"{after:.3f}" if math.isfinite(after) else "–"
    return TableCell(f"{text} ({before:.3f})" if math.isfinite(before) else text, after)


def comparison_table(title: str, comparisons: Sequence[DesignComparison], metric: str) -> ReportTable:
    """Every comparison of a family: difference, interval, adjusted p-values, errors, effect, users better and worse."""
    heads = ["Design", "Difference", "95% interval", "p", "Error by users", "Error by seeds", "d_z"]
    heads += ["p (Wilcoxon, users only)", "Better : worse"]
    one_base = len({comparison.second.label for comparison in comparisons}) < 2  # then the caption names it
    rows = []
    for compared in comparisons:
        numbers = compared.comparison
        by_users, by_seeds = (math.sqrt(part) for part in (numbers.error.users, numbers.error.seeds))
        rows.append(
            [
                TableCell(compared.first.label),
                *([] if one_base else [TableCell(compared.second.label)]),
                TableCell(f"{numbers.difference:+.4f}", numbers.difference, stars=compared.stars),
                TableCell(f"[{numbers.low:+.4f}, {numbers.high:+.4f}]", numbers.low),
                _if_tested(numbers, compared.t_holm, p_value),
                TableCell(metric_value(by_users), by_users),
                _if_tested(numbers, by_seeds, metric_value),
                TableCell(f"{numbers.effect:+.2f}", numbers.effect),
                TableCell(p_value(compared.wilcoxon_holm), compared.wilcoxon_holm),
                TableCell(f"{numbers.better} : {numbers.worse}", numbers.better - numbers.worse),
            ]
        )
    caption = _comparison_caption(comparisons, metric, one_base)
    heads = heads if one_base else [heads[0], "against", *heads[1:]]
    return ReportTable(title, caption, heads, rows).without_empty_columns()


def _if_tested(comparison: Comparison, value: float, written: Callable[[float], str]) -> TableCell:
    return TableCell(written(value), value) if comparison.sees_seeds else TableCell("–")


def _comparison_caption(comparisons: Sequence[DesignComparison], metric: str, one_base: bool) -> str:
    users = comparisons[0].comparison.users if comparisons else 0
    tested = sum(compared.comparison.sees_seeds for compared in comparisons)
    base = f", all against {comparisons[0].second.label}" if one_base and comparisons else ""
    sentences = [f"{metric_name(metric)} of {users:,} users{base}."]
    if tested:
        family = f", adjusted by Holm over {tested} comparisons" if tested > 1 else ""
        sentences.append(f"p: t-test over users and seeds{family}.")
    if tested < len(comparisons):
        sentences.append(
            "No p: a design ran under one seed, and another could change the order; its interval covers users only."
        )
    return " ".join([*sentences, power_statement(comparisons)]).strip()


def variance_table(group: DesignGroup, metric: str) -> ReportTable:
    """The uncertainty of each mean by seeds and by users: standard errors and standard deviations.

    Without rows where no design has several seeds, or the test part one user.
    """
    rows = []
    for design in (design for design in group.designs if len(design.runs) > 1 and design.has_error):
        mean, parts = design.mean(f"test.{metric}"), variance_parts(design.per_user(metric))
        numbers = mean, parts.seed_error, parts.user_error, math.sqrt(parts.seed), math.sqrt(parts.user)
        rows.append([TableCell(design.label), *(TableCell(metric_value(value), value) for value in numbers)])
    heads = ["Design", "Mean", "Error by seeds", "Error by users", "SD of seeds", "SD of users"]
    caption = (
        "Standard errors of the mean if only the seeds, or only the users, were drawn anew (crossed random effects)."
    )
    return ReportTable(f"Seeds and users, {group.title}", caption, heads, rows)
