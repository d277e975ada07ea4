"""The figures of a report: each is drawn where the runs have something to show, and left out where they have not."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lmm4rec.evaluation.significance import bootstrap_interval, mean_over_seeds
from lmm4rec.experiments.report.collect import TOTAL, Collection, Design, Panel
from lmm4rec.experiments.report.figure_style import (
    COLORS,
    GRAY,
    Drawn,
    canvas,
    color,
    legend,
    mark,
    settings,
    shortened,
)
from lmm4rec.experiments.report.number_formats import is_number, metric_name
from lmm4rec.experiments.study.ready import HIDDEN, SEED

_SERIES = ("paradigm", "encoder", "modalities")
_ROW = 0.24  # inches for a row of words
_FACETS = 3  # beside each other
_INTERVALS = "Test means over seeds; lines: 95% bootstrap intervals over users. Gray: models that see no content."
_COST = "Means over seeds; with what was encoded and tuned for the run in this study. Up is better, left is cheaper."


def figures(collection: Collection) -> list[Drawn]:
    """All figures that there are, panel by panel."""
    drawn = []
    with settings() as matplotlib:
        import matplotlib.figure
        import matplotlib.ticker

        for number, panel in enumerate(collection.panels):
            suffix = f"_{number + 1}" if len(collection.panels) > 1 else ""
            for draw in _DRAWERS:
                for name, title, caption, figure in draw(matplotlib, panel, collection):
                    where = f"{title}, {panel.title}" if suffix else title
                    drawn.append(Drawn(f"{name}{suffix}", where, caption, figure))
    return drawn


Named = tuple[str, str, str, Any]  # name, title, caption, figure


def _quality(matplotlib: Any, panel: Panel, collection: Collection) -> Iterator[Named]:
    """The metric by recommender, a color for each value of one more axis, a field for each combination of the rest."""
    main = [axis for axis in collection.axes if axis not in (SEED, *_SERIES, "data", "protocol")]
    groups = next((axis for axis in ("recommender", *main) if axis in collection.axes), None)
    for series in _SERIES:
        designs = _plain(panel.designs, collection, keep=(series,))
        if groups is None or len(_values(designs, series, collection)) < 2:
            continue
        fields = _fields(designs, (groups, series), collection)
        figure = _grouped(matplotlib, fields, groups, series, collection)
        title = f"{metric_name(collection.metric)} by {series}"
        yield f"quality_by_{series}", title, _INTERVALS, figure


def _grouped(
    matplotlib: Any, fields: Mapping[str, Sequence[Design]], groups: str, series: str, collection: Collection
) -> Any:
    rows, columns = _layout(len(fields))
    every = [design for designs in fields.values() for design in designs]
    names, kinds = _values(every, groups, collection), _values(every, series, collection)
    height = rows * (0.55 + _ROW * len(names) * max(1.0, 0.5 * len(kinds))) + 0.75
    figure, axes = canvas(matplotlib, height, rows=rows, columns=columns)
    handles: dict[str, Any] = {}
    for axis, (title, designs) in zip(axes.flat, fields.items(), strict=False):
        axis.set_title(shortened(title, 70 // columns))
        for design in designs:
            kind = design.axes.get(series)
            shade = GRAY if kind is None else color(kinds.index(kind))
            shift = 0.0 if kind is None else (kinds.index(kind) - (len(kinds) - 1) / 2) * 0.7 / len(kinds)
            row = names.index(design.axes[groups]) + shift
            point = _interval(axis, design, row, shade, "|" if kind is None else mark(kinds.index(kind)), collection)
            if kind is not None:
                handles.setdefault(kind, point)
        axis.set_yticks(range(len(names)), [shortened(name, 24) for name in names])
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
    for axis in _lowest(axes, len(fields)):
        axis.set_xlabel(f"{metric_name(collection.metric)}, test")
    shown = [kind for kind in kinds if kind in handles]
    legend(figure, [handles[kind] for kind in shown], shown)
    return figure


def _interval(axis: Any, design: Design, row: float, shade: str, sign: str, collection: Collection) -> Any:
    values = mean_over_seeds(design.per_user(collection.metric))
    low, high = bootstrap_interval(values)
    axis.plot([low, high], [row, row], color=shade, linewidth=1.6, solid_capstyle="butt", alpha=0.75)
    (point,) = axis.plot(values.mean(), row, sign, color=shade, markersize=5.5, linestyle="none")
    return point


def _cost(matplotlib: Any, panel: Panel, collection: Collection) -> Iterator[Named]:
    """The metric against seconds: color by recommender, mark by what else differs."""
    designs = _plain(panel.designs, collection)
    if len(designs) < 2:
        return
    groups = "recommender" if "recommender" in collection.axes else next(iter(designs[0].axes))
    names = _values(designs, groups, collection)
    rest = list(_kinds(designs, groups, collection).values())
    kinds = list(dict.fromkeys(rest))
    figure, axes = canvas(matplotlib, 3.4 + 0.17 * (len(names) + len(kinds)) / 3)
    (axis,) = axes.flat
    for design, kind in zip(designs, rest, strict=True):
        place = max(design.mean(TOTAL), 0.01), design.mean(f"test.{collection.metric}")
        shade = color(names.index(design.axes[groups]))
        axis.plot(*place, mark(kinds.index(kind)), color=shade, markersize=7, markeredgecolor="white")
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    axis.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
    axis.set_xlabel("seconds of a run and of its features (logarithmic)")
    axis.set_ylabel(f"{metric_name(collection.metric)}, test")
    line = matplotlib.lines.Line2D
    colored = [line([], [], color=color(i), marker="o", linestyle="none") for i in range(len(names))]
    marked = [line([], [], color=GRAY, marker=mark(i), linestyle="none") for i in range(len(kinds))]
    labels = [*names, *(shortened(kind or "no content", 30) for kind in kinds)]
    shown = (colored, names) if len(kinds) < 2 else ([*colored, *marked], labels)
    legend(figure, *shown)
    yield (
        "quality_and_cost",
        "Quality against cost",
        _COST,
        figure,
    )


def _slices(matplotlib: Any, panel: Panel, collection: Collection) -> Iterator[Named]:
    """The metric on popular, tail and cold items."""
    kinds = [
        k
        for k in ("popular", "tail", "cold")
        if any(d.numbers(f"slices.{k}.{collection.metric}") for d in panel.designs)
    ]
    designs = _ordered(_plain(panel.designs, collection, keep=("modalities",)), collection)
    if not kinds or not designs:
        return
    figure, (row,) = canvas(matplotlib, 0.9 + _ROW * len(designs), columns=len(kinds))
    for axis, kind in zip(row, kinds, strict=True):
        values = [design.mean(f"slices.{kind}.{collection.metric}") for design in designs]
        axis.barh(range(len(designs)), np.nan_to_num(values), height=0.6, color=color(kinds.index(kind)))
        axis.set_title(f"{kind} items")
        axis.set_xlabel(metric_name(collection.metric))
        axis.grid(axis="y", visible=False)
    _name_rows(row[0], designs)
    caption = "Test, means over seeds. Popular: the fifth of the items with the most training likes; cold: none at all."
    yield "slices", "Warm and cold items", caption, figure


def _curves(matplotlib: Any, panel: Panel, collection: Collection) -> Iterator[Named]:
    """The validation metric by epoch: a field for each recommender, a thin line for each seed."""
    designs = [design for design in _plain(panel.designs, collection) if any(_history(design, collection.metric))]
    if not designs:
        return
    groups = "recommender" if "recommender" in collection.axes else next(iter(designs[0].axes))
    names = _values(designs, groups, collection)
    kind_of = _kinds(designs, groups, collection)
    kinds = list(dict.fromkeys(kind_of.values()))
    rows, columns = _layout(len(names))
    figure, axes = canvas(matplotlib, 0.6 + 1.9 * rows + 0.2 * (len(kinds) > 1), rows=rows, columns=columns)
    handles: dict[str, Any] = {}
    for axis, name in zip(axes.flat, names, strict=False):
        axis.set_title(shortened(name, 70 // columns))
        for design in (design for design in designs if design.axes[groups] == name):
            index = kinds.index(kind_of[design.label])
            for points in _history(design, collection.metric):
                (line,) = axis.plot(*zip(*points, strict=True), color=color(index), linewidth=1.2, alpha=0.8)
                handles.setdefault(kinds[index], line)
    for axis in _lowest(axes, len(names)):
        axis.set_xlabel("epoch")
        axis.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
    for axis in axes[:, 0]:
        axis.set_ylabel(f"{metric_name(collection.metric)}, validation")
    shown = [kind for kind in kinds if kind in handles]
    legend(figure, [handles[kind] for kind in shown], [shortened(kind or "no content", 40) for kind in shown])
    yield "learning_curves", "Learning curves", "One line a seed.", figure


def _seeds(matplotlib: Any, panel: Panel, collection: Collection) -> Iterator[Named]:
    """What seeds scatter beside what users scatter."""
    designs = _ordered([design for design in panel.designs if len(design.cells) > 1], collection)
    if not designs:
        return
    figure, axes = canvas(matplotlib, 0.9 + _ROW * len(designs))
    (axis,) = axes.flat
    for row, design in enumerate(designs):
        low, high = bootstrap_interval(mean_over_seeds(design.per_user(collection.metric)))
        axis.plot([low, high], [row, row], color="#BBBBBB", linewidth=5, solid_capstyle="butt")
        for number, value in enumerate(sorted(design.numbers(f"test.{collection.metric}"))):
            axis.plot(value, row, "o", color=color(0), markersize=4, alpha=0.8, label="a seed" if not number else None)
    axis.set_xlabel(f"{metric_name(collection.metric)}, test")
    axis.grid(axis="y", visible=False)
    _name_rows(axis, designs)
    caption = "Points: seeds. Gray: 95% bootstrap interval over users of the mean over seeds."
    yield "seeds", "Seeds and users", caption, figure


def _hidden(matplotlib: Any, panel: Panel, collection: Collection) -> Iterator[Named]:
    """The metric against the share of items whose content is hidden."""
    for name in collection.axes:
        hidden = HIDDEN.fullmatch(name)
        lines: dict[str, list[Design]] = {}
        for design in (design for design in panel.designs if hidden and name in design.axes):
            lines.setdefault(_but(design, name) or panel.title, []).append(design)
        if hidden is None or max(map(len, lines.values()), default=0) < 2:
            continue
        figure, axes = canvas(matplotlib, 3.0 + 0.2 * (len(lines) > 1))
        (axis,) = axes.flat
        handles = [_missing(axis, members, name, index, collection) for index, members in enumerate(lines.values())]
        axis.set_xlabel(f"% of items whose {hidden['modality']} is hidden ({_WHEN[hidden['at']]})")
        axis.set_ylabel(f"{metric_name(collection.metric)}, test")
        axis.set_ylim(bottom=0)
        legend(figure, handles, [shortened(label, 40) for label in lines])
        title = f"Missing {hidden['modality']}, {_WHEN[hidden['at']]}"
        yield name, title, "Means over seeds; bands are 95% bootstrap intervals over users.", figure


_WHEN = {"always": "in training and test", "train": "in training", "test": "at test"}


def _missing(axis: Any, designs: Sequence[Design], name: str, index: int, collection: Collection) -> Any:
    designs = sorted(designs, key=lambda design: float(design.axes[name]))
    shares = [100 * float(design.axes[name]) for design in designs]
    means = [mean_over_seeds(design.per_user(collection.metric)) for design in designs]
    lows, highs = zip(*(bootstrap_interval(values) for values in means), strict=True)
    axis.fill_between(shares, lows, highs, color=color(index), alpha=0.15, linewidth=0)
    points = [float(values.mean()) for values in means]
    (line,) = axis.plot(shares, points, marker=mark(index), color=color(index), markersize=5)
    return line


_DRAWERS: Sequence[Callable[[Any, Panel, Collection], Iterator[Named]]] = (
    _quality, _cost, _slices, _hidden, _curves, _seeds,
)  # fmt: skip


def _layout(fields: int) -> tuple[int, int]:
    """Rows and columns for so many fields."""
    columns = 2 if fields == 4 else min(_FACETS, fields)
    return -(-fields // columns), columns


def _lowest(axes: Any, fields: int) -> list[Any]:
    """The lowest field of each column, its scale shown; what is not needed below it is hidden."""
    for axis in axes.flat[fields:]:
        axis.set_visible(False)
    lowest = [[axis for axis in column if axis.get_visible()][-1] for column in axes.T]
    for axis in lowest:
        axis.tick_params(labelbottom=True)
    return lowest


def _plain(designs: Sequence[Design], collection: Collection, keep: Sequence[str] = ()) -> list[Design]:
    """The designs of the main comparison: audits (modalities, hidden shares) at their first value, but for `keep`."""
    audits = [axis for axis in collection.axes if axis == "modalities" or HIDDEN.fullmatch(axis)]
    firsts = {axis: collection.axes[axis][0] for axis in audits if axis not in keep}
    return [d for d in designs if all(d.axes.get(axis, first) == first for axis, first in firsts.items())]


def _values(designs: Sequence[Design], axis: str, collection: Collection) -> list[str]:
    """The values of an axis that the designs have, in the study's order."""
    there = {design.axes.get(axis) for design in designs}
    return [value for value in collection.axes.get(axis, ()) if value in there]


def _fields(designs: Sequence[Design], taken: Sequence[str], collection: Collection) -> dict[str, list[Design]]:
    """The designs by their values of the axes that are not taken; those that have none of them stand in every field."""
    rest = [a for a in collection.axes if a not in (*taken, SEED, "data", "protocol")]
    rest = [axis for axis in rest if len(_values(designs, axis, collection)) > 1]
    names = [" · ".join(d.axes[axis] for axis in rest if axis in d.axes) for d in designs]
    fields: dict[str, list[Design]] = {name: [] for name in dict.fromkeys(names) if name or not any(names)}
    for design, name in zip(designs, names, strict=True):
        for field in [name] if name in fields else fields:
            fields[field].append(design)
    return fields


def _ordered(designs: Sequence[Design], collection: Collection) -> list[Design]:
    """Best first by test, for figures that are read from top to bottom."""
    return sorted(designs, key=lambda design: design.mean(f"test.{collection.metric}"), reverse=True)


def _but(design: Design, axis: str) -> str:
    return " · ".join(v for a, v in design.axes.items() if a not in (axis, "data", "protocol"))


def _kinds(designs: Sequence[Design], groups: str, collection: Collection) -> dict[str, str]:
    """By label, all that a design is beside its group; one axis of it where there are more kinds than colors."""
    kinds = {design.label: _but(design, groups) for design in designs}
    few = [axis for axis in _SERIES if axis != groups and 1 < len(_values(designs, axis, collection)) <= len(COLORS)]
    if len(set(kinds.values())) > len(COLORS) and few:
        return {design.label: design.axes.get(few[0], "") for design in designs}
    return kinds


def _name_rows(axis: Any, designs: Sequence[Design]) -> None:
    axis.set_yticks(range(len(designs)), [shortened(design.label, 44) for design in designs])
    axis.set_ylim(len(designs) - 0.5, -0.5)


def _history(design: Design, metric: str) -> Iterator[list[tuple[float, float]]]:
    for cell in design.cells:
        rows = cell.result.history
        points = [(float(row["epoch"]), float(row[metric])) for row in rows if is_number(row.get(metric))]
        if points:
            yield points
