"""Figures of training: the validation metric and the loss by epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lmm4rec.experiments.report.figure_series import axis_values, kinds_by_label, main_designs, row_axis, subplot_layout
from lmm4rec.experiments.report.figure_style import (
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
from lmm4rec.experiments.report.finished_runs import Design, DesignGroup, RunCollection
from lmm4rec.experiments.report.number_formats import metric_name, metric_value
from lmm4rec.experiments.report.quality_figures import lowest_subplots

_WIDE_RANGE = 20  # losses that span more than this factor stand on a logarithmic scale


def learning_curves(group: DesignGroup, collection: RunCollection, *, width: float = WIDE) -> Iterator[ReportFigure]:
    """The validation metric by epoch: a subplot for each recommender, a color for each kind, a line for each seed."""
    metric = collection.metric
    designs = [design for design in main_designs(group.designs, collection) if _curves(design, metric)]
    if not designs:
        return
    axis = row_axis(designs, collection)
    names, kind_of = axis_values(designs, axis, collection), kinds_by_label(designs, axis, collection)
    kinds = list(dict.fromkeys(kind_of.values()))
    title, caption = "Learning curves", "One line a seed; the marker is the epoch that validation selected."
    if len(kinds) < 2:
        figure, numbers = _all_designs(designs, metric, f"{metric_name(metric)}, validation", collection, width)
        yield ReportFigure("learning_curves", title, caption, figure, numbers)
        return
    rows, columns = subplot_layout(len(names), width)
    figure, axes = canvas(0.6 + 1.9 * rows + 0.2, rows=rows, columns=columns, width=width)
    handles: dict[str, Any] = {}
    for ax, name in zip(axes.flat, names, strict=False):
        ax.set_title(shortened(name, 70 // columns))
        for design in (design for design in designs if design.axes[axis] == name):
            kind = kind_of[design.label]
            handles[kind] = _draw_curves(ax, design, metric, kinds.index(kind))
    for ax in lowest_subplots(axes, len(names)):
        _epoch_axis(ax)
    for ax in axes[:, 0]:
        ax.set_ylabel(f"{metric_name(metric)}, validation")
    shown = [kind for kind in kinds if kind in handles]
    legend(figure, [handles[kind] for kind in shown], [shortened(kind or "no content", 40) for kind in shown])
    yield ReportFigure("learning_curves", title, caption, figure)


def training_losses(group: DesignGroup, collection: RunCollection, *, width: float = WIDE) -> Iterator[ReportFigure]:
    """The training loss by epoch, on a logarithmic scale where it spans orders of magnitude."""
    designs = [design for design in main_designs(group.designs, collection) if _curves(design, "loss")]
    if not designs:
        return
    figure, numbers = _all_designs(designs, "loss", "training loss", collection, width)
    losses = [loss for design in designs for curve in _curves(design, "loss") for _, loss in curve.points]
    caption = "Losses of different models differ in kind: compare shapes, not heights."
    if min(losses) > 0 and max(losses) > _WIDE_RANGE * min(losses):
        figure.axes[0].set_yscale("log")
        caption += " Logarithmic scale."
    yield ReportFigure("training_losses", "Training loss", caption, figure, numbers)


def _all_designs(
    designs: Sequence[Design], key: str, label: str, collection: RunCollection, width: float
) -> tuple[Any, str]:
    """One subplot for all designs, each in a color and with a marker of its own; and the selected epochs as text."""
    axis = row_axis(designs, collection)
    order = collection.axes[axis]  # the colors are those of the other figures
    labels = [shortened(design.label, 30) for design in designs]
    figure, ax = single_canvas(labels, width)
    handles = [_draw_curves(ax, design, key, order.index(design.axes[axis])) for design in designs]
    _epoch_axis(ax)
    ax.set_ylabel(label)
    legend(figure, handles, labels)
    selected = [(d.label, *curve.selected) for d in designs for curve in _curves(d, key) if curve.selected]
    return figure, "; ".join(f"{name}: epoch {epoch:g}, {metric_value(value)}" for name, epoch, value in selected)


def _draw_curves(ax: Any, design: Design, key: str, index: int) -> Any:
    look = {"color": color(index), "markersize": 5.5, **marker_edge(marker(index))}
    for curve in _curves(design, key):
        ax.plot(*zip(*curve.points, strict=True), color=color(index), linewidth=1.3, alpha=0.85)
        if curve.selected:
            ax.plot(*curve.selected, marker(index), **look)
    (sample,) = ax.plot([], [], marker=marker(index), linewidth=1.3, **look)
    return sample


class _Curve(NamedTuple):
    """A number by epoch, of one run."""

    points: list[tuple[float, float]]  # (epoch, value) where the value was measured and is finite
    selected: tuple[float, float] | None  # the point of the epoch that validation selected


def _curves(design: Design, key: str) -> list[_Curve]:
    """The curves of the runs that measured the number in training."""
    curves = []
    for run in design.runs:
        measured = [(float(row["epoch"]), float(row.get(key, math.nan))) for row in run.result.history]
        points = [point for point in measured if math.isfinite(point[1])]
        selected = next((point for point in points if point[0] == run.measured.chosen.epoch), None)
        curves += [_Curve(points, selected)] if points else []
    return curves


def _epoch_axis(ax: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
