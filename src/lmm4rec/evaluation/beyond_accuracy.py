"""Beyond-accuracy metrics of all recommendation lists: coverage, Gini coefficient, novelty.

`top` [users, k] holds item rows, -1 where a list is shorter.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64


def exposure(top: Int64[np.ndarray, "users k"], n_items: int) -> Int64[np.ndarray, " items"]:
    """The number of lists that contain each item."""
    return np.bincount(top[top >= 0], minlength=n_items).astype(np.int64)


def coverage(exposures: Int64[np.ndarray, " items"]) -> float:
    """The share of the catalog that is in at least one list, in [0, 1].

    Catalog coverage of Ge, Delgado-Battenfeld and Jannach 2010, doi 10.1145/1864708.1864761.
    """
    return np.count_nonzero(exposures) / len(exposures)


def gini(exposures: Int64[np.ndarray, " items"]) -> float:
    """The Gini coefficient of exposure over all items: 0 where all are equal, 1 - 1/items where one item has all.

    With the exposures e sorted ascending and n items: G = sum_i (2 i - n - 1) e_i / (n sum_i e_i), i from 1. It is 0
    where nothing is exposed.
    """
    n, total = len(exposures), int(exposures.sum())
    if total == 0:
        return 0.0
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float(weights @ np.sort(exposures)) / (n * total)


def novelty(exposures: Int64[np.ndarray, " items"], counts: Int64[np.ndarray, " items"]) -> float:
    """The mean over all recommended entries of -log2(popularity share), in bits; higher is less popular.

    An item's share is its part of all training interactions `counts`; an item without any counts as having one, since
    its information would be infinite. Self-information as in Vargas and Castells 2011, doi 10.1145/2043932.2043955.
    It is 0 where nothing is exposed.
    """
    total = max(int(counts.sum()), 1)
    bits = np.log2(total) - np.log2(np.maximum(counts, 1))
    return float(exposures @ bits) / max(int(exposures.sum()), 1)
