from __future__ import annotations

import numpy as np

from lmm4rec.evaluation.evaluator import item_slices


def members(counts: list[int]) -> dict[str, list[int]]:
    return {name: np.flatnonzero(mask).tolist() for name, mask in item_slices(np.array(counts)).items()}


def test_slices_by_hand() -> None:
    # seven warm items: a fifth of them, rounded up, is two; of the three with 5 interactions the first row comes along
    slices = members([5, 0, 1, 9, 5, 2, 0, 5, 1])
    assert slices == {"cold": [1, 6], "warm": [0, 2, 3, 4, 5, 7, 8], "popular": [0, 3], "tail": [2, 4, 5, 7, 8]}


def test_nothing_is_popular_where_nothing_is_warm() -> None:
    assert members([0, 0]) == {"cold": [0, 1], "warm": [], "popular": [], "tail": []}


def test_every_item_is_in_one_of_cold_popular_tail() -> None:
    counts = np.random.default_rng(0).poisson(1.0, size=101)
    slices = item_slices(counts)
    assert (slices["cold"].astype(int) + slices["popular"] + slices["tail"] == 1).all()
    assert counts[slices["popular"]].min() >= counts[slices["tail"]].max()
