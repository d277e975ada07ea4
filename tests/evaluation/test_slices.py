from __future__ import annotations

import numpy as np

from lmm4rec.evaluation.slices import field_slices, item_slices, user_slices


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


def test_slices_by_field_are_the_values_with_the_most_interactions() -> None:
    slices = field_slices("brand", ["b", "a", "b", "", "c"], np.array([1, 5, 3, 2, 0]), most=3)
    assert {name: np.flatnonzero(mask).tolist() for name, mask in slices.items()} == {
        "brand: a": [1], "brand: b": [0, 2], "brand: none": [3], "brand: others": [4],
    }  # fmt: skip


def test_users_are_in_thirds_by_their_interactions_and_equal_ones_together() -> None:
    slices = user_slices(np.array([1, 9, 2, 3, 3, 4, 1, 2, 1200]))
    assert {name: np.flatnonzero(mask).tolist() for name, mask in slices.items()} == {
        "users: 1 to 2": [0, 2, 6, 7], "users: 3": [3, 4], "users: 4 to 1,200": [1, 5, 8],
    }  # fmt: skip
    assert list(user_slices(np.array([4, 4, 4]))) == ["users: 4"]
