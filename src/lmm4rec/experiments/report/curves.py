"""Figures as geometry: where ticks, lines, marks and labels stand. The template turns them into inline SVG.

Colors are those of the page's style sheet, so figures follow its light and dark themes; no two runs are told apart by
color alone, each has a mark of its own as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from lmm4rec.experiments.report import number_formats as words
from lmm4rec.experiments.report.view import RunView

WIDTH, HEIGHT = 460.0, 300.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 16.0, 34.0, 44.0  # room around the plot, for the ticks
_FONT = 14  # the size of every word in a figure, in units of WIDTH
_LETTER = 0.56 * _FONT  # the usual width of a letter
_MANY = 20  # losses that span more than this factor stand on a logarithmic axis

_COLORS = 7  # in the style sheet
_SHAPES = ("M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0-9 0z", "M-4-4h8v8h-8z", "M0-5.5L5.5 0 0 5.5-5.5 0z", "M0-5L5 4H-5z")
_DASHES = ("", "7 3", "2 3")


@dataclass(frozen=True)
class Style:
    """How a run looks in every figure."""

    color: int
    shape: str
    dash: str


@dataclass(frozen=True)
class Tick:
    """A tick of an axis: its place in the figure and its words."""

    at: float
    text: str


@dataclass(frozen=True)
class Axis:
    """A scale from values to places in the figure."""

    title: str
    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[Tick]
    logarithmic: bool = False

    def place(self, value: float) -> float:
        """Where a value stands."""
        return _place(value, self.low, self.high, self.start, self.end, self.logarithmic)


@dataclass(frozen=True)
class Mark:
    """A point, with the words that a pointer resting on it brings up."""

    x: float
    y: float
    style: Style
    words: str


@dataclass(frozen=True)
class Line:
    """A curve."""

    points: Sequence[tuple[float, float]]
    style: Style
    words: str


@dataclass(frozen=True)
class Label:
    """Words in the figure."""

    x: float
    y: float
    anchor: str  # "start", "middle" or "end", as in SVG
    text: str


@dataclass(frozen=True)
class Figure:
    """A figure that is ready to be drawn."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line] = ()
    marks: Sequence[Mark] = ()
    labels: Sequence[Label] = ()


def styles(runs: Sequence[RunView]) -> Mapping[str, Style]:
    """The look of each run, by label; the first 28 differ in color or mark."""
    return {
        run.label: Style(i % _COLORS, _SHAPES[i % len(_SHAPES)], _DASHES[i // _COLORS % len(_DASHES)])
        for i, run in enumerate(runs)
    }


def quality_and_cost(runs: Sequence[RunView], metric: str) -> list[Figure]:
    """Test quality against time, a labelled point a run; no figure where no run tells its seconds."""
    timed = [run for run in runs if words.is_number(run.cost.get("seconds"))]
    if not timed:
        return []
    name, look = words.metric_name(metric), styles(runs)
    times = {run.label: max(float(run.cost["seconds"]), 0.01) for run in timed}
    x = _axis("seconds in all", list(times.values()), LEFT, WIDTH - RIGHT, logarithmic=True)
    y = _axis(f"{name}, test", [float(run.test[metric]) for run in timed], HEIGHT - BOTTOM, TOP)
    marks = [
        Mark(
            x.place(times[run.label]),
            y.place(run.test[metric]),
            look[run.label],
            f"{run.label}: {name} {run.test[metric]:.4f}, {words.seconds(times[run.label])}",
        )
        for run in timed
    ]
    return [Figure("Quality against time", x, y, marks=marks, labels=_labels(marks, [run.label for run in timed]))]


def training(runs: Sequence[RunView], metric: str) -> list[Figure]:
    """The validation metric and the loss against the epoch, of the runs that have them; the best epoch is marked."""
    name = words.metric_name(metric)
    validated = {run.label: points for run in runs if (points := _history(run, metric))}
    losses = {run.label: points for run in runs if (points := _history(run, "loss"))}
    figures = []
    if validated:
        figures.append(_curves(f"{name} on validation", name, runs, validated))
    if losses:
        values = [loss for points in losses.values() for _, loss in points]
        wide = min(values) > 0 and max(values) > _MANY * min(values)
        figures.append(_curves("Training loss", "loss", runs, losses, logarithmic=wide))
    return figures


def _history(run: RunView, key: str) -> list[tuple[float, float]]:
    """(epoch, value) of every epoch in which the value was measured."""
    return [(float(row["epoch"]), float(row[key])) for row in run.history if words.is_number(row.get(key))]


def _curves(
    title: str,
    axis: str,
    runs: Sequence[RunView],
    curves: Mapping[str, Sequence[tuple[float, float]]],
    *,
    logarithmic: bool = False,
) -> Figure:
    points = [point for curve in curves.values() for point in curve]
    look = styles(runs)
    x = _axis("epoch", [epoch for epoch, _ in points], LEFT, WIDTH - RIGHT, whole=True)
    y = _axis(axis, [value for _, value in points], HEIGHT - BOTTOM, TOP, logarithmic=logarithmic)
    lines = [
        Line([(x.place(epoch), y.place(value)) for epoch, value in curve], look[label], label)
        for label, curve in curves.items()
    ]
    marks = [
        Mark(x.place(epoch), y.place(value), look[run.label], f"{run.label}: best epoch {epoch:g}, {value:.4f}")
        for run in runs
        for epoch, value in curves.get(run.label, ())
        if epoch == run.best_epoch
    ]
    return Figure(title, x, y, lines=lines, marks=marks)


def _axis(
    title: str, values: Sequence[float], start: float, end: float, *, logarithmic: bool = False, whole: bool = False
) -> Axis:
    """An axis that holds all values, with a little air, and three to seven round ticks."""
    low, high = min(values), max(values)
    if logarithmic:
        low, high = low / 1.5, high * 1.5
        ticks = _powers(low, high)
    else:
        air = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        low, high = (low - air if low < 0 else max(low - air, 0.0)), high + air
        ticks = _rounds(low, high, smallest=1.0 if whole else 0.0)
    texts = _texts(ticks, logarithmic)
    placed = [Tick(_place(at, low, high, start, end, logarithmic), text) for at, text in zip(ticks, texts, strict=True)]
    return Axis(title, low, high, start, end, placed, logarithmic)


def _place(value: float, low: float, high: float, start: float, end: float, logarithmic: bool) -> float:
    if logarithmic:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return start + (end - start) * (value - low) / (high - low)


def _rounds(low: float, high: float, *, smallest: float = 0.0) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = max(smallest, next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough))
    return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _powers(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten where these are few, else the powers alone."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**exponent for exponent in exponents for factor in factors]
        ticks = [tick for tick in ticks if low <= tick <= high]
        if len(ticks) <= 6:
            break
    return ticks


def _texts(ticks: Sequence[float], logarithmic: bool) -> list[str]:
    if logarithmic:
        return [f"{tick:,.10g}" for tick in ticks]
    step = ticks[1] - ticks[0] if len(ticks) > 1 else 1.0
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{tick:.{decimals}f}" for tick in ticks]


class Box(NamedTuple):
    """A rectangle in the figure."""

    left: float
    top: float
    right: float
    bottom: float

    def shared(self, other: Box) -> float:
        """The area that lies in both."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)


_ROOM = Box(LEFT, 0.0, WIDTH, HEIGHT - BOTTOM)  # where labels may stand


def box_of(label: Label) -> Box:
    """About the room that a label takes."""
    width = _LETTER * len(label.text)
    left = label.x - {"start": 0.0, "middle": width / 2, "end": width}[label.anchor]
    return Box(left, label.y - 0.9 * _FONT, left + width, label.y + 0.3 * _FONT)


def _labels(marks: Sequence[Mark], texts: Sequence[str]) -> list[Label]:
    """A label beside each mark, where it covers no mark and no label that stands already."""
    taken = [Box(mark.x - 6, mark.y - 6, mark.x + 6, mark.y + 6) for mark in marks]
    labels = []
    for mark, text in sorted(zip(marks, texts, strict=True), key=lambda pair: pair[0].y):
        label = min(_candidates(mark, text), key=lambda candidate: _badness(box_of(candidate), taken))
        taken.append(box_of(label))
        labels.append(label)
    return labels


def _candidates(mark: Mark, text: str) -> Iterator[Label]:
    """Places for a label, nearest first: right, left, then also above and below, farther and farther."""
    middle = mark.y + 0.35 * _FONT
    yield Label(mark.x + 10, middle, "start", text)
    yield Label(mark.x - 10, middle, "end", text)
    for step in range(1, 10):
        for y in (middle - step * _FONT, middle + step * _FONT):
            yield Label(mark.x + 10, y, "start", text)
            yield Label(mark.x - 10, y, "end", text)
            yield Label(mark.x, y, "middle", text)


def _badness(box: Box, taken: Sequence[Box]) -> float:
    """The area of a box that is taken already, or lies outside of the plot."""
    outside = box.shared(box) - box.shared(_ROOM)
    return sum(box.shared(other) for other in taken) + 2 * outside
