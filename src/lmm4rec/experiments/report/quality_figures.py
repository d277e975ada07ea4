"""Figures of test quality: by design, against cost, by slice, by hidden content, and its spread over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lmm4rec.data.findings import counted
from lmm4rec.experiments.report.figure_series import (
    SERIES_AXES,
    axis_values,
    kinds_by_label,
    main_designs,
    other_values,
    row_axis,
    subplot_layout,
    subplots_of,
)
from lmm4rec.experiments.report.figure_style import (
    GRAY,
    WIDE,
    ReportFigure,
    canvas,
    color,
    legend,
    marker,
    marker_edge,
    shortened,
    single_canvas,
)
from lmm4rec.experiments.report.finished_runs import TOTAL, Design, DesignGroup, RunCollection
from lmm4rec.experiments.report.number_formats import metric_name, metric_value, seconds
from lmm4rec.experiments.report.point_labels import label_points
from lmm4rec.experiments.study.axis_presets import HIDDEN, SEED

_ROW = 0.24  # inches a row of text
_SIZE = 5.5  # points, of a marker
_COVERED = "over users and seeds (of designs with one seed: over users only)"
_INTERVALS = f"Test means; lines: 95% intervals {_COVERED}. Gray: models that use no content."
_HIDDEN_WHEN = {"always": "in training and test", "train": "in training", "test": "at test"}


def quality_by_axis(group: DesignGroup, collection: RunCollection, *, width: float = WIDE) -> Iterator[ReportFigure]:
    """The metric by recommender, a color for each value of a second axis, a subplot for each combination of others."""
    main = [axis for axis in collection.axes if axis not in (SEED, *SERIES_AXES, "data", "protocol")]
    rows = next((axis for axis in ("recommender", *main) if axis in collection.axes), None)
    drawn: list[set[frozenset[str]]] = []
    for series in SERIES_AXES:
        designs = main_designs(group.designs, collection, keep=(series,))
        alike = _alike(designs, series)
        if rows is None or len(axis_values(designs, series, collection)) < 2 or alike in drawn:
            continue
        drawn.append(alike)
        figure = _intervals(subplots_of(designs, (rows, series), collection), rows, series, collection, width)
        yield ReportFigure(f"quality_by_{series}", f"{metric_name(collection.metric)} by {series}", _INTERVALS, figure)
    designs = main_designs(group.designs, collection)
    if rows is not None and not drawn and len(designs) > 1:
        figure = _intervals(subplots_of(designs, (rows,), collection), rows, rows, collection, width)
        caption = f"Test means; lines: 95% intervals {_COVERED}."
        yield ReportFigure(f"quality_by_{rows}", f"{metric_name(collection.metric)} by {rows}", caption, figure)


def _alike(designs: Sequence[Design], axis: str) -> set[frozenset[str]]:
    """The sets of designs that have the same value on an axis: two axes with the same sets give the same figure."""
    by_value: dict[str | None, set[str]] = {}
    for design in designs:
        by_value.setdefault(design.axes.get(axis), set()).add(design.label)
    return {frozenset(labels) for labels in by_value.values()}


def _intervals(
    subplots: Mapping[str, Sequence[Design]], rows: str, series: str, collection: RunCollection, width: float
) -> Any:
    every = [design for designs in subplots.values() for design in designs]
    names, kinds = axis_values(every, rows, collection), axis_values(every, series, collection)
    per_row = 1 if rows == series else len(kinds)
    down, across = subplot_layout(len(subplots), width)
    figure, axes = canvas(
        down * (0.55 + _ROW * len(names) * max(1.0, 0.5 * per_row)) + 0.75, rows=down, columns=across, width=width
    )
    handles: dict[str, Any] = {}
    for ax, (title, designs) in zip(axes.flat, subplots.items(), strict=False):
        ax.set_title(shortened(title, 70 // across))
        for design in designs:
            row, kind = float(names.index(design.axes[rows])), design.axes.get(series)
            if kind is None:
                _interval(ax, design, row, GRAY, "|", collection.metric)
                continue
            index = kinds.index(kind)
            row += 0.0 if rows == series else (index - (len(kinds) - 1) / 2) * 0.7 / len(kinds)
            handles[kind] = _interval(ax, design, row, color(index), marker(index), collection.metric)
        _name_rows(ax, names, width / 2)
    for ax in lowest_subplots(axes, len(subplots)):
        ax.set_xlabel(f"{metric_name(collection.metric)}, test")
    shown = [kind for kind in kinds if kind in handles and rows != series]  # else the rows name the colors
    legend(figure, [handles[kind] for kind in shown], shown)
    return figure


def _interval(ax: Any, design: Design, row: float, shade: str, sign: str, metric: str) -> Any:
    mean, *ends = design.mean_and_interval(metric)
    ax.plot(ends, [row, row], color=shade, linewidth=1.6, solid_capstyle="butt", alpha=0.75)
    (point,) = ax.plot(mean, row, sign, color=shade, markersize=_SIZE, linestyle="none")
    return point


def quality_and_cost(group: DesignGroup, collection: RunCollection, *, width: float = WIDE) -> Iterator[ReportFigure]:
    """The metric against seconds: color by recommender, marker by the other axes, or by recommender without these."""
    key = f"test.{collection.metric}"
    designs = [design for design in main_designs(group.designs, collection) if design.numbers(TOTAL)]
    if len(designs) < 2:
        return
    axis = row_axis(designs, collection)
    order = collection.axes[axis]  # the colors are those of the other figures
    names, kind_of = axis_values(designs, axis, collection), kinds_by_label(designs, axis, collection)
    kinds = list(dict.fromkeys(kind_of.values()))
    labels = [
        shortened(label, 30) for label in (names if len(kinds) < 2 else [*names, *(k or "no content" for k in kinds)])
    ]
    looks = {}
    for design in designs:
        row, kind = order.index(design.axes[axis]), kinds.index(kind_of[design.label])
        looks[design.label] = color(row), marker(kind if len(kinds) > 1 else row)
    best_first = _best_first(designs, collection)
    figure, unnamed = _cost_scatter(best_first, looks, collection.metric, [], width)
    if unnamed:  # their colors and markers need a legend
        figure, unnamed = _cost_scatter(best_first, looks, collection.metric, labels, width)
        indices = [order.index(name) for name in names]
        handles = [_sample(color(i), marker(i) if len(kinds) < 2 else "o") for i in indices]
        legend(figure, [*handles, *(_sample(GRAY, marker(i)) for i in range(len(kinds)))][: len(labels)], labels)
    means = "Means over seeds. " if any(len(design.runs) > 1 for design in designs) else ""
    caption = f"{means}Up is better, left is cheaper; times include the features, whichever run computed them."
    if unnamed:
        caption += f" {counted(len(unnamed), 'point')} without a name: too close to others."
    numbers = [f"{d.label}: {metric_value(d.mean(key))}, {seconds(d.mean(TOTAL))}" for d in designs]
    yield ReportFigure("quality_and_cost", "Quality against cost", caption, figure, "; ".join(numbers))


def _cost_scatter(
    designs: Sequence[Design], looks: Mapping[str, tuple[str, str]], metric: str, labels: Sequence[str], width: float
) -> tuple[Any, list[str]]:
    """The figure with room for a legend of `labels`, and the designs for whose names there is no room."""
    figure, ax = single_canvas(labels, width)
    points = [(max(design.mean(TOTAL), 0.01), design.mean(f"test.{metric}")) for design in designs]
    for design, (x, y) in zip(designs, points, strict=True):
        shade, sign = looks[design.label]
        ax.plot(x, y, sign, color=shade, linestyle="none", markersize=_SIZE + 1, **marker_edge(sign))
    _seconds_axis(ax)
    ax.set_ylabel(f"{metric_name(metric)}, test")
    ax.margins(0.12)
    return figure, label_points(ax, points, [shortened(design.label, 40) for design in designs])


def _seconds_axis(ax: Any) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("seconds (logarithmic)")


def _sample(shade: str, sign: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=shade, marker=sign, linestyle="none", markersize=_SIZE)


def slices(group: DesignGroup, collection: RunCollection, *, width: float = WIDE) -> Iterator[ReportFigure]:
    """The metric on popular, tail and cold items."""
    keys = {kind: f"slices.{kind}.{collection.metric}" for kind in ("popular", "tail", "cold")}
    keys = {kind: key for kind, key in keys.items() if any(design.numbers(key) for design in group.designs)}
    designs = _best_first(main_designs(group.designs, collection, keep=("modalities",)), collection)
    if not keys or not designs:
        return
    down, across = (1, len(keys)) if width == WIDE else (len(keys), 1)
    figure, axes = canvas(0.6 + down * (0.3 + _ROW * len(designs)), rows=down, columns=across, width=width)
    for index, (ax, (kind, key)) in enumerate(zip(axes.flat, keys.items(), strict=True)):
        values = [design.mean(key) for design in designs]
        ax.barh(range(len(designs)), np.nan_to_num(values), height=0.6, color=color(index))
        ax.set_title(f"{kind} items")
        ax.grid(axis="y", visible=False)
    for ax in axes[-1]:
        ax.set_xlabel(metric_name(collection.metric))
    for ax in axes[:, 0]:
        _name_rows(ax, [design.label for design in designs], width)
    caption = (
        "Test, means over seeds. Popular: the fifth of the items with the most training interactions; cold: with none."
    )
    yield ReportFigure("slices", "Warm and cold items", caption, figure)


def hidden_content(group: DesignGroup, collection: RunCollection, *, width: float = WIDE) -> Iterator[ReportFigure]:
    """The metric against the share of items whose content is hidden."""
    for axis in collection.axes:
        hidden = HIDDEN.fullmatch(axis)
        lines: dict[str, list[Design]] = {}
        for design in (design for design in group.designs if hidden and axis in design.axes):
            lines.setdefault(other_values(design, axis) or group.title, []).append(design)
        if hidden is None or max(map(len, lines.values()), default=0) < 2:
            continue
        figure, ((ax,),) = canvas(3.0 + 0.2 * (len(lines) > 1), width=width)
        handles = [_hidden_line(ax, of_line, axis, i, collection.metric) for i, of_line in enumerate(lines.values())]
        ax.set_xlabel(f"% of items whose {hidden['modality']} is hidden ({_HIDDEN_WHEN[hidden['at']]})")
        ax.set_ylabel(f"{metric_name(collection.metric)}, test")
        ax.set_ylim(bottom=0)
        legend(figure, handles, [shortened(label, 40) for label in lines])
        title = f"Missing {hidden['modality']}, {_HIDDEN_WHEN[hidden['at']]}"
        yield ReportFigure(axis, title, f"Means over seeds; bands are 95% intervals {_COVERED}.", figure)


def _hidden_line(ax: Any, designs: Sequence[Design], axis: str, index: int, metric: str) -> Any:
    designs = sorted(designs, key=lambda design: float(design.axes[axis]))
    shares = [100 * float(design.axes[axis]) for design in designs]
    means, lows, highs = zip(*(design.mean_and_interval(metric) for design in designs), strict=True)
    ax.fill_between(shares, lows, highs, color=color(index), alpha=0.15, linewidth=0)
    (line,) = ax.plot(shares, means, marker=marker(index), color=color(index), markersize=_SIZE)
    return line


def spread_over_seeds(group: DesignGroup, collection: RunCollection, *, width: float = WIDE) -> Iterator[ReportFigure]:
    """The values of the seeds beside the interval of their mean."""
    designs = _best_first([design for design in group.designs if len(design.runs) > 1], collection)
    if not designs:
        return
    figure, ((ax,),) = canvas(0.9 + _ROW * len(designs), width=width)
    for row, design in enumerate(designs):
        _, *ends = design.mean_and_interval(collection.metric)
        ax.plot(ends, [row, row], color="#BBBBBB", linewidth=5, solid_capstyle="butt")
        values = design.numbers(f"test.{collection.metric}")
        ax.plot(values, [row] * len(values), "o", color=color(0), markersize=4, alpha=0.8)
    ax.set_xlabel(f"{metric_name(collection.metric)}, test")
    _name_rows(ax, [design.label for design in designs], width)
    caption = "Points: seeds. Gray: the 95% interval of the mean, for other users and other seeds."
    yield ReportFigure("seeds", "Seeds and users", caption, figure)


def _best_first(designs: Sequence[Design], collection: RunCollection) -> list[Design]:
    return DesignGroup("", designs).best_first(f"test.{collection.metric}")


def _name_rows(ax: Any, names: Sequence[str], width: float) -> None:
    """Name the rows, the first on top; `width` is that of the figure, in inches, or of its part."""
    longest = round(6.2 * width)
    ax.set_yticks(range(len(names)), [shortened(name, longest) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def lowest_subplots(axes: Any, subplots: int) -> list[Any]:
    """The lowest subplot of each column, with its scale shown; axes without a subplot are hidden."""
    for ax in axes.flat[subplots:]:
        ax.set_visible(False)
    lowest = [[ax for ax in column if ax.get_visible()][-1] for column in axes.T]
    for ax in lowest:
        ax.tick_params(labelbottom=True)
    return lowest
