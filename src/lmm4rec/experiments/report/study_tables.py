"""Tables of a report: as frames for files, as rows for a page, in Markdown and in LaTeX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from lmm4rec.experiments.report import number_formats as words
from lmm4rec.experiments.report.collect import Collection, Design, Panel
from lmm4rec.experiments.report.design_comparisons import Finding, scatter
from lmm4rec.experiments.study.ready import SEED


@dataclass(frozen=True)
class Entry:
    """A cell of a table: its words, the number it sorts by (NaN: none), its rank and its mark."""

    text: str
    value: float = math.nan
    rank: int = 0  # 1 the best of its column, 2 the second best
    stars: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: a head for each column, the first of which are words, and its rows."""

    title: str
    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Entry]]

    @property
    def words(self) -> list[bool]:
        """Of each column, whether it holds words and no numbers."""
        return [all(math.isnan(row[i].value) for row in self.rows) for i in range(len(self.heads))]


def main_table(panel: Panel, findings: Sequence[Finding], collection: Collection) -> Grid:
    """Quality and cost of every design, best first by test; marks tell who differs from the reference."""
    metric, other = collection.metric, words.companion(collection.metric)
    designs = sorted(panel.designs, key=lambda design: design.mean(f"test.{metric}"), reverse=True)
    axes = _shown_axes(designs)
    stars = {finding.first.label: finding.stars for finding in findings}
    columns: list[tuple[str, str, Callable[[float], str], bool]] = [
        (words.metric_name(metric), f"test.{metric}", words.metric_value, True),
        (words.metric_name(other), f"test.{other}", words.metric_value, True),
        (f"{words.metric_name(metric)} valid", f"valid.{metric}", words.metric_value, True),
        (f"{words.metric_name(metric)} cold", f"slices.cold.{metric}", words.metric_value, True),
        ("Training", "cost.train_seconds", words.seconds, False),
        ("Encodings an epoch", "cost.encodings_per_epoch", words.count, False),
        ("Memory", "cost.peak_memory_mb", words.megabytes, False),
        ("Parameters", "cost.parameters", words.count, False),
        ("Trainable", "cost.trainable_parameters", words.count, False),
    ]
    shown = [column for column in columns if any(design.numbers(column[1]) for design in designs)]
    cells = [_column(designs, key, show, ranked) for _, key, show, ranked in shown]
    rows = []
    for number, design in enumerate(designs):
        entries = [column[number] for column in cells]
        entries[0] = Entry(**{**vars(entries[0]), "stars": stars.get(design.label, "")})
        seeds = Entry(str(len(design.cells)), len(design.cells))
        rows.append([*(Entry(design.axes.get(axis, "–")) for axis in axes), *entries, seeds])
    base = next((finding.second.label for finding in findings), "")
    caption = "Test, mean ± standard deviation over seeds"
    if base:
        caption += f"; *, **, ***: differs from {base} with p < 0.05, 0.01, 0.001 (paired t-test over users, Holm)"
    return Grid(panel.title, caption + ".", [*axes, *(head for head, *_ in shown), "Seeds"], rows)


def _shown_axes(designs: Sequence[Design]) -> list[str]:
    axes = list(dict.fromkeys(axis for design in designs for axis in design.axes if axis != "data"))
    varying = [axis for axis in axes if len({design.axes.get(axis) for design in designs}) > 1]
    return varying or axes[:1]


def _column(designs: Sequence[Design], key: str, show: Callable[[float], str], ranked: bool) -> list[Entry]:
    values = [design.numbers(key) for design in designs]
    means = [float(np.mean(column)) if column else math.nan for column in values]
    order = sorted({round(mean, 4) for mean in means if math.isfinite(mean)}, reverse=True)  # what reads alike ties
    entries = []
    for column, mean in zip(values, means, strict=True):
        text = show(mean) if math.isfinite(mean) else "–"
        if ranked and len(column) > 1:
            text += f" ± {np.std(column, ddof=1):.4f}"
        rank = order.index(round(mean, 4)) + 1 if ranked and math.isfinite(mean) and len(order) > 1 else 0
        entries.append(Entry(text, mean, rank if rank <= 2 else 0))
    return entries


def alignment_table(panel: Panel) -> Grid:
    """How well the vectors of images and words agree (of a tuned encoder: after tuning, and before)."""
    names = [name for design in panel.designs for key in design.keys("alignment.") for name in [key.rpartition(".")[2]]]
    measures = [name for name in dict.fromkeys(names) if name != "pairs"]
    seen: dict[tuple[str, ...], list[Entry]] = {}
    for design in panel.designs:
        pairs = [(_aligned(design, "after", name), _aligned(design, "before", name)) for name in measures]
        if any(math.isfinite(after) for after, _ in pairs):
            without = {axis: value for axis, value in design.axes.items() if axis != "recommender"}
            label = " · ".join(value for axis, value in without.items() if axis not in ("data", "protocol"))
            seen.setdefault(tuple(without.values()), [Entry(label or panel.title), *(_change(*pair) for pair in pairs)])
    heads = ["", *(words.metric_name(name) for name in measures)]
    caption = "Of the features, measured on pairs of image and words of one item; in brackets: before tuning."
    return Grid(f"Alignment, {panel.title}", caption, heads, list(seen.values()))


def _aligned(design: Design, when: str, name: str) -> float:
    if when == "after" and design.numbers(f"alignment.{name}"):
        return design.mean(f"alignment.{name}")
    return design.mean(f"alignment.{when}.{name}")


def _change(after: float, before: float) -> Entry:
    text = f"{after:.3f}" if math.isfinite(after) else "–"
    return Entry(f"{text} ({before:.3f})" if math.isfinite(before) else text, after)


def findings_table(title: str, findings: Sequence[Finding], metric: str) -> Grid:
    """Every comparison of a family: difference, interval, effect, adjusted p-values, users better and worse."""
    heads = ["", "Difference", "95% interval", "d_z", "p (t)", "p (Wilcoxon)", "Better : worse"]
    one_base = len({finding.second.label for finding in findings}) < 2  # then the caption names it
    rows = []
    for finding in findings:
        found = finding.comparison
        rows.append(
            [
                Entry(finding.first.label),
                *([] if one_base else [Entry(finding.second.label)]),
                Entry(f"{found.difference:+.4f}", found.difference, stars=finding.stars),
                Entry(f"[{found.low:+.4f}, {found.high:+.4f}]", found.low),
                Entry(f"{found.effect:+.2f}", found.effect),
                Entry(p_value(finding.t_holm), finding.t_holm),
                Entry(p_value(finding.wilcoxon_holm), finding.wilcoxon_holm),
                Entry(f"{found.better} : {found.worse}", found.better - found.worse),
            ]
        )
    users = findings[0].comparison.users if findings else 0
    said = f"{words.metric_name(metric)}, paired over {users:,} users; p adjusted by Holm over {len(rows)} comparisons"
    base = f", all against {findings[0].second.label}" if one_base and findings else ""
    return Grid(title, f"{said}{base}.", heads if one_base else [heads[0], "against", *heads[1:]], rows)


def scatter_table(panel: Panel, metric: str) -> Grid:
    """How much of the uncertainty of each mean is that of seeds, and how much that of users."""
    rows = [
        [
            Entry(design.label),
            Entry(f"{design.mean(f'test.{metric}'):.4f}", design.mean(f"test.{metric}")),
            Entry(f"{parts.seed_error:.4f}", parts.seed_error),
            Entry(f"{parts.user_error:.4f}", parts.user_error),
            Entry(f"{math.sqrt(parts.seed):.4f}", math.sqrt(parts.seed)),
            Entry(f"{math.sqrt(parts.user):.4f}", math.sqrt(parts.user)),
        ]
        for design, parts in scatter(panel, metric)
    ]
    heads = ["", "Mean", "Error by seeds", "Error by users", "SD of seeds", "SD of users"]
    caption = (
        "Standard errors of the mean if only the seeds, or only the users, were drawn anew (crossed random effects)."
    )
    return Grid(f"Seeds and users, {panel.title}", caption, heads, rows)


def p_value(p: float) -> str:
    """A p-value as papers write it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def cells_frame(collection: Collection) -> pl.DataFrame:
    """One row a cell: its axes, and every number of its metrics.json by dotted name."""
    axes = list(collection.axes)
    rows = [
        {"cell": cell.name, "panel": panel.title, **{axis: cell.axes.get(axis) for axis in axes}, **cell.numbers()}
        for panel in collection.panels
        for design in panel.designs
        for cell in design.cells
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def users_frame(collection: Collection) -> pl.LazyFrame:
    """One row a cell, part and user: every metric of every user, as a stream, for there can be many."""
    frames = [
        pl.scan_parquet(cell.result.folder.per_user).with_columns(cell=pl.lit(cell.name)) for cell in collection.cells
    ]
    return pl.concat(frames, how="diagonal")


def findings_frame(findings: Sequence[Finding]) -> pl.DataFrame:
    """One row a comparison, with every number of it."""
    rows = [
        {
            "family": finding.family,
            "first": finding.first.label,
            "second": finding.second.label,
            **vars(finding.comparison),
            "t_holm": finding.t_holm,
            "wilcoxon_holm": finding.wilcoxon_holm,
        }
        for finding in findings
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def histories_frame(collection: Collection) -> pl.DataFrame:
    """One row a cell and epoch."""
    rows = [{"cell": cell.name, **row} for cell in collection.cells for row in cell.result.history]
    return pl.DataFrame(rows, infer_schema_length=None)


def markdown(grid: Grid) -> str:
    """The table in Markdown: the best bold, the second best in italics."""
    lines = [f"| {' | '.join(_cell(head) for head in grid.heads)} |"]
    lines.append("|" + "|".join("---" if only_words else "---:" for only_words in grid.words) + "|")
    marks = {1: "**{}**", 2: "*{}*", 0: "{}"}
    for row in grid.rows:
        cells = (marks[entry.rank].format(_cell(entry.text)) + _cell(entry.stars) for entry in row)
        lines.append(f"| {' | '.join(cells)} |")
    return f"**{grid.title}.** {_cell(grid.caption)}\n\n" + "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("*", r"\*")


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "·": r"$\cdot$", "<": "$<$",
    ">": "$>$", "≤": r"$\leq$", "→": r"$\to$",
}  # fmt: skip


def latex(grid: Grid, label: str) -> str:
    r"""The table for a paper (needs `\usepackage{booktabs}`): the best bold, the second best underlined."""
    columns = "".join("l" if only_words else "r" for only_words in grid.words)
    marks = {1: r"\textbf{%s}", 2: r"\underline{%s}", 0: "%s"}
    lines = [r"\begin{table}[t]", r"\centering", rf"\caption{{{_tex(grid.title)}. {_tex(grid.caption)}}}"]
    lines += [rf"\label{{tab:{label}}}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    lines += [" & ".join(_tex(head) for head in grid.heads) + r" \\", r"\midrule"]
    for row in grid.rows:
        cells = (marks[e.rank] % _tex(e.text) + (f"$^{{{e.stars}}}$" if e.stars else "") for e in row)
        lines.append(" & ".join(cells) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _tex(text: str) -> str:
    return "".join(_TEX.get(letter, letter) for letter in text)


def seeds_of(collection: Collection) -> list[int]:
    """The seeds that there are."""
    return sorted({cell.seed for cell in collection.cells}) if SEED in collection.axes else []
