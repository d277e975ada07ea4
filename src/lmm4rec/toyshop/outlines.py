"""Outlines, filled or drawn as lines, on a square of 100 by 100 units (y grows downwards).

An outline is written like an SVG path with absolute coordinates: M move, L line, Q and C curves of Bézier, Z close, and
two short forms: `E x y rx ry` an ellipse, `R left top right bottom radius` a rectangle with round corners.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float


class Part(NamedTuple):
    """A filled outline, or a line along it where `width` is given; `paint` names its color."""

    paint: str  # "body" has the pattern; "base", "deep" and "pale" are shades of the color; the rest are fixed colors
    path: str
    width: float = 0.0


_STEPS = 10  # straight pieces of a curve
_CURVES = {"L": 1, "Q": 2, "C": 3}  # points that each command takes


@cache
def outline(path: str) -> Float[np.ndarray, "points 2"]:
    """The points of a path, its curves in short straight pieces."""
    tokens = path.split()
    if tokens[0] == "E":
        return _ellipse(*(float(token) for token in tokens[1:]))
    if tokens[0] == "R":
        return _rectangle(*(float(token) for token in tokens[1:]))
    points = [np.array([[float(tokens[1]), float(tokens[2])]])]
    at = 3
    while at < len(tokens) and tokens[at] != "Z":
        count = _CURVES[tokens[at]]
        numbers = np.array([float(token) for token in tokens[at + 1 : at + 1 + 2 * count]]).reshape(count, 2)
        points.append(_bezier(np.concatenate([points[-1][-1:], numbers])))
        at += 1 + 2 * count
    return np.concatenate(points)


def _bezier(controls: np.ndarray) -> np.ndarray:
    """The curve by de Casteljau's repeated mixing, without its first point."""
    if len(controls) == 2:
        return controls[1:]
    t = np.linspace(0, 1, _STEPS + 1)[1:, None, None]
    layer = np.broadcast_to(controls, (_STEPS, *controls.shape))
    while layer.shape[1] > 1:
        layer = (1 - t) * layer[:, :-1] + t * layer[:, 1:]
    return layer[:, 0]


def _ellipse(x: float, y: float, rx: float, ry: float) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], axis=1)


def _rectangle(left: float, top: float, right: float, bottom: float, radius: float) -> np.ndarray:
    corners = [(right, bottom, 0), (left, bottom, 1), (left, top, 2), (right, top, 3)]
    pieces = []
    for x, y, quarter in corners:
        angle = (quarter + np.linspace(0, 1, 6)) * np.pi / 2
        center_x = x - radius if x == right else x + radius
        center_y = y - radius if y == bottom else y + radius
        pieces.append(np.stack([center_x + radius * np.cos(angle), center_y + radius * np.sin(angle)], axis=1))
    return np.concatenate(pieces)
