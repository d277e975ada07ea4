"""Slices of items by their number of training interactions."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Int64

POPULAR_SHARE = 0.2


def item_slices(counts: Int64[np.ndarray, " items"]) -> dict[str, Bool[np.ndarray, " items"]]:
    """The members of each slice, from the number of training interactions of each item.

    - "cold": none.
    - "warm": at least one.
    - "popular": the fifth of the warm items (rounded up) with the most interactions; among equals, the first rows.
    - "tail": the other warm items.
    """
    warm = counts > 0
    popular = np.zeros_like(warm)
    popular[np.argsort(-counts, kind="stable")[: math.ceil(POPULAR_SHARE * warm.sum())]] = True
    return {"cold": ~warm, "warm": warm, "popular": popular, "tail": warm & ~popular}
