from __future__ import annotations

from math import log2
from typing import get_args

import numpy as np
import pytest

from lmm4rec.evaluation.metrics import METRICS, Metric, measure

# four relevant items, of which ranks 2 and 3 have one each; a list of five
HITS = np.array([[False, True, True, False, False]])
RELEVANT = np.array([4])
BY_HAND = {
    "recall": 2 / 4,
    "precision": 2 / 5,
    "hit_rate": 1.0,
    "mrr": 1 / 2,
    "map": (1 / 2 + 2 / 3) / 4,
    "ndcg": (1 / log2(3) + 1 / log2(4)) / (1 / log2(2) + 1 / log2(3) + 1 / log2(4) + 1 / log2(5)),
}


@pytest.mark.parametrize("name", METRICS)
def test_a_case_computed_by_hand(name: Metric) -> None:
    np.testing.assert_allclose(METRICS[name](HITS, RELEVANT), [BY_HAND[name]], rtol=1e-12)


def test_more_relevant_items_than_ranks() -> None:
    """k = 2 of 4 relevant: the ideal list has two hits, recall still asks for all four."""
    values = measure(HITS, RELEVANT, list(METRICS), [2])
    expected = {
        "recall@2": 1 / 4,
        "precision@2": 1 / 2,
        "hit_rate@2": 1.0,
        "mrr@2": 1 / 2,
        "map@2": (1 / 2) / 2,
        "ndcg@2": (1 / log2(3)) / (1 + 1 / log2(3)),
    }
    assert {name: float(value[0]) for name, value in values.items()} == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("relevant", [1, 3, 10, 50])
def test_a_perfect_list_of_relevant_items_scores_one(name: Metric, relevant: int) -> None:
    """Except recall, whose denominator exceeds k here, and precision, whose k exceeds the relevant items."""
    hits = np.arange(10)[None] < relevant
    best = {"recall": min(1, 10 / relevant), "precision": min(1, relevant / 10)}.get(name, 1.0)
    np.testing.assert_allclose(METRICS[name](hits, np.array([relevant])), [best], rtol=1e-12)


@pytest.mark.parametrize("name", METRICS)
def test_nothing_found_and_nothing_relevant_are_zero(name: Metric) -> None:
    values = METRICS[name](np.zeros((2, 5), dtype=bool), np.array([3, 0]))
    assert values.tolist() == [0, 0]
    assert values.dtype == np.float64


def test_names() -> None:
    assert tuple(METRICS) == get_args(Metric)
    assert list(measure(HITS, RELEVANT, ["mrr", "recall"], [1, 5])) == ["mrr@1", "mrr@5", "recall@1", "recall@5"]
