"""Labels beside the points of a figure that overlap neither each other nor a point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

_SIZE = 7.5  # points, of the text
_RADIUS = 5.0  # points around a point that stay free
_GAP = 1.5  # points around a label that stay free
_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
_DISTANCES = (7.0, 16.0, 28.0)  # points, tried in turn; from the second on a line leads to the point


class _Box(NamedTuple):
    left: float
    low: float
    right: float
    high: float

    def meets(self, other: _Box) -> bool:
        return self.left < other.right and other.left < self.right and self.low < other.high and other.low < self.high

    def is_inside(self, other: _Box) -> bool:
        return (
            other.left <= self.left and other.low <= self.low and self.right <= other.right and self.high <= other.high
        )


class _Place(NamedTuple):
    offset: tuple[float, float]  # points, from the point to the label
    horizontal: str
    vertical: str
    has_line: bool


def label_points(ax: Any, points: Sequence[tuple[float, float]], labels: Sequence[str]) -> list[str]:
    """Write a label beside each point, the first ones first; returns the labels for which there is no room.

    Nothing that changes the limits of the axes may be drawn later.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(ax.figure).get_renderer()
    ax.get_xlim(), ax.get_ylim()
    unit = ax.figure.dpi / 72  # pixels in a point
    pixels = [tuple(xy / unit) for xy in ax.transData.transform(np.asarray(points, float).reshape(-1, 2))]
    taken = [_Box(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for x, y in pixels]
    (left, low), (right, high) = ax.transAxes.transform([(0, 0), (1, 1)]) / unit
    frame = _Box(left, low, right, high)
    left_out = []
    for point, at, label in zip(points, pixels, labels, strict=True):
        text = ax.annotate(label, point, textcoords="offset points", xytext=(0, 0), fontsize=_SIZE)
        extent = text.get_window_extent(renderer)
        size = extent.width / unit, extent.height / unit
        text.remove()
        free = ((place, box) for place, box in _places(at, size) if box.is_inside(frame) and not _blocked(box, taken))
        place, box = next(free, (None, None))
        if place is None or box is None:
            left_out.append(label)
            continue
        taken.append(box)
        line = {"arrowstyle": "-", "color": "#767676", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            label, point, textcoords="offset points", xytext=place.offset, fontsize=_SIZE, ha=place.horizontal,
            va=place.vertical, arrowprops=line if place.has_line else None,
        )  # fmt: skip
    return left_out


def _places(at: tuple[float, float], size: tuple[float, float]) -> Iterator[tuple[_Place, _Box]]:
    """The places for a label of this size, the best first, each with the room that it takes."""
    width, height = size
    for distance in _DISTANCES:
        for x, y in _DIRECTIONS:
            reach = distance if not (x and y) else distance * 0.75
            offset = x * reach, y * reach
            horizontal = {1: "left", 0: "center", -1: "right"}[x]
            vertical = {1: "bottom", 0: "center", -1: "top"}[y]
            left = at[0] + offset[0] - {1: 0.0, 0: width / 2, -1: width}[x]
            low = at[1] + offset[1] - {1: 0.0, 0: height / 2, -1: height}[y]
            box = _Box(left - _GAP, low - _GAP / 2, left + width + _GAP, low + height + _GAP / 2)
            yield _Place(offset, horizontal, vertical, distance > _DISTANCES[0]), box


def _blocked(box: _Box, taken: Sequence[_Box]) -> bool:
    return any(box.meets(other) for other in taken)
