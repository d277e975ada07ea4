"""Motifs of patterns: polygons on (and around) the square of 100 by 100 units on which shapes are drawn."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from jaxtyping import Float

Motifs = list[Float[np.ndarray, "points 2"]]

_LOW, _HIGH = -15.0, 115.0  # the square with a margin, since motifs are shifted


def motifs(pattern: str, *, size: float, shift: float) -> Motifs:
    """The polygons of a pattern, `size` times as large as usual, moved by `shift` (0 to 1) of their spacing.

    "plain" and "ombre" (a change of color) have none.
    """
    return _PATTERNS[pattern](size, shift) if pattern in _PATTERNS else []


def _stripes(size: float, shift: float) -> Motifs:
    gap = 13 * size
    return [_band(y, gap * 0.46) for y in _positions(gap, shift)]


def _checks(size: float, shift: float) -> Motifs:
    gap = 21 * size
    columns, rows = _positions(gap, shift), _positions(gap, shift / 2)
    half = gap / 2
    return [
        np.array([[x, y], [x + half, y], [x + half, y + half], [x, y + half]])
        for left in columns
        for top in rows
        for x, y in ((left, top), (left + half, top + half))
    ]


def _zigzag(size: float, shift: float) -> Motifs:
    gap, tooth = 18 * size, 9 * size
    x = np.arange(_LOW, _HIGH + tooth, tooth)
    y = np.where(np.arange(len(x)) % 2, 0.0, gap * 0.5)
    upper = np.stack([x, y], axis=1)
    lower = upper[::-1] + np.array([0.0, gap * 0.42])
    return [np.concatenate([upper, lower]) + np.array([0.0, top]) for top in _positions(gap, shift)]


def _scattered(motif: Float[np.ndarray, "points 2"], gap: float, shift: float) -> Motifs:
    """The motif on a grid, every other row moved by half a step."""
    return [
        motif + np.array([x + (gap / 2 if row % 2 else 0.0), y])
        for row, y in enumerate(_positions(gap * 0.87, shift))
        for x in _positions(gap, shift)
    ]


def _dots(size: float, shift: float) -> Motifs:
    return _scattered(_round(4.4 * size), 16 * size, shift)


def _flowers(size: float, shift: float) -> Motifs:
    """Five petals that leave the middle open."""
    angle = 2 * np.pi * np.arange(5) / 5
    centers = 4.6 * size * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return [petal for center in centers for petal in _scattered(_round(3.6 * size) + center, 27 * size, shift)]


def _stars(size: float, shift: float) -> Motifs:
    angle = np.pi * np.arange(10) / 5 - np.pi / 2
    radius = np.where(np.arange(10) % 2, 3.1, 7.6) * size
    star = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return _scattered(star, 22 * size, shift)


def _round(radius: float) -> Float[np.ndarray, "points 2"]:
    angle = np.linspace(0, 2 * np.pi, 16, endpoint=False)
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _band(top: float, height: float) -> Float[np.ndarray, "4 2"]:
    return np.array([[_LOW, top], [_HIGH, top], [_HIGH, top + height], [_LOW, top + height]])


def _positions(gap: float, shift: float) -> list[float]:
    return cast(list[float], np.arange(_LOW - gap * (1 - shift), _HIGH, gap).tolist())


_PATTERNS: dict[str, Callable[[float, float], Motifs]] = {
    "stripes": _stripes,
    "dots": _dots,
    "checks": _checks,
    "zigzag": _zigzag,
    "stars": _stars,
    "flowers": _flowers,
}
