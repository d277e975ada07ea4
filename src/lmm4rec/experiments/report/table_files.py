"""The files of a study's report: tables in Markdown and LaTeX, data as CSV and Parquet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from lmm4rec.core.files import atomic, write_text
from lmm4rec.evaluation.significance import Comparison
from lmm4rec.experiments.report.design_comparisons import DesignComparison
from lmm4rec.experiments.report.finished_runs import RunCollection
from lmm4rec.experiments.report.tables import ReportTable

_MOST_CSV_ROWS = 1_000_000


def write_tables(out: Path, tables: Mapping[str, Sequence[ReportTable]]) -> None:
    """Write each list of tables as NAME.md and NAME.tex."""
    for name, of_name in tables.items():
        write_text(out / f"{name}.md", "\n".join(map(markdown, of_name)))
        write_text(out / f"{name}.tex", "\n".join(latex(one, f"{name}-{i}") for i, one in enumerate(of_name, start=1)))


def write_data(out: Path, collection: RunCollection, comparisons: Sequence[DesignComparison]) -> None:
    """Write the numbers of runs, comparisons, epochs and users as CSV and Parquet; of very many users Parquet only."""
    frames = {
        "cells": _cells_frame(collection),
        "designs": _designs_frame(collection),
        "comparisons": _comparisons_frame(comparisons),
        "epochs": _epochs_frame(collection),
    }
    for name, frame in frames.items():
        with atomic(out / f"{name}.csv") as beside:
            frame.write_csv(beside)
        with atomic(out / f"{name}.parquet") as beside:
            frame.write_parquet(beside)
    users = _users_frame(collection)
    with atomic(out / "users.parquet") as beside:
        users.sink_parquet(beside)
    if int(users.select(pl.len()).collect().item()) <= _MOST_CSV_ROWS:
        with atomic(out / "users.csv") as beside:
            users.sink_csv(beside)


def _cells_frame(collection: RunCollection) -> pl.DataFrame:
    """One row a run: its axes, and every number of its metrics.json by dotted name."""
    axes = list(collection.axes)
    rows = [
        {"cell": run.name, "panel": group.title, **{axis: run.axes.get(axis) for axis in axes}, **run.numbers}
        for group in collection.groups
        for design in group.designs
        for run in design.runs
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _designs_frame(collection: RunCollection) -> pl.DataFrame:
    """One row a design and number: its mean over seeds and the standard error of that, null where there is one seed."""
    rows = [
        {"panel": group.title, "design": design.label, "number": key, "seeds": len(design.numbers(key)),
         "mean": design.mean(key), "error": error if math.isfinite(error := design.error(key)) else None}
        for group in collection.groups
        for design in group.designs
        for key in design.keys("")
    ]  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None, schema_overrides={"error": pl.Float64})


def _users_frame(collection: RunCollection) -> pl.LazyFrame:
    """One row a run, part and user: every metric of every user, as a stream, for there can be many."""
    frames = [run.result.folder.scan_per_user().with_columns(cell=pl.lit(run.name)) for run in collection.runs]
    return pl.concat(frames, how="diagonal")


def _comparisons_frame(comparisons: Sequence[DesignComparison]) -> pl.DataFrame:
    """One row a comparison, with all its numbers."""
    rows = [
        {
            "family": compared.family,
            "first": compared.first.label,
            "second": compared.second.label,
            **{name: value for name, value in vars(compared.comparison).items() if name != "error"},
            **_error_columns(compared.comparison),
            "t_holm": compared.t_holm,
            "wilcoxon_holm": compared.wilcoxon_holm,
        }
        for compared in comparisons
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _error_columns(comparison: Comparison) -> dict[str, float]:
    """The standard error and its parts; what needs seeds is NaN where a design lacks them."""
    error, seen = comparison.error, 1.0 if comparison.sees_seeds else math.nan
    return {
        "error": error.total * seen,
        "error_users": math.sqrt(error.users),
        "error_seeds": math.sqrt(error.seeds) * seen,
        "seeds_df": error.seeds_df * seen,
        "visible": error.visible() * seen,
    }


def _epochs_frame(collection: RunCollection) -> pl.DataFrame:
    """One row a run and epoch."""
    rows = [{"cell": run.name, **row} for run in collection.runs for row in run.result.history]
    return pl.DataFrame(rows, infer_schema_length=None)


def markdown(table: ReportTable) -> str:
    """The table in Markdown: the best bold, the second best in italics."""
    lines = [f"| {' | '.join(map(_markdown, table.heads))} |"]
    lines.append("|" + "|".join("---" if text else "---:" for text in table.text_columns) + "|")
    marks = {1: "**{}**", 2: "*{}*", 0: "{}"}
    for row in table.rows:
        cells = (marks[cell.rank].format(_markdown(cell.text)) + _markdown(cell.stars) for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return f"**{table.title}.** {_markdown(table.caption)}\n\n" + "\n".join(lines) + "\n"


def _markdown(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "·": r"$\cdot$", "<": "$<$",
    ">": "$>$", "≤": r"$\leq$", "→": r"$\to$",
}  # fmt: skip


def latex(table: ReportTable, label: str) -> str:
    r"""The table for a paper (needs `\usepackage{booktabs}`): the best bold, the second best underlined."""
    columns = "".join("l" if text else "r" for text in table.text_columns)
    marks = {1: r"\textbf{%s}", 2: r"\underline{%s}", 0: "%s"}
    lines = [r"\begin{table}[t]", r"\centering", rf"\caption{{{_latex(table.title)}. {_latex(table.caption)}}}"]
    lines += [rf"\label{{tab:{label}}}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(map(_latex, table.heads)) + r" \\", r"\midrule"]
    for row in table.rows:
        cells = (marks[cell.rank] % _latex(cell.text) + (f"$^{{{cell.stars}}}$" if cell.stars else "") for cell in row)
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _latex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)
