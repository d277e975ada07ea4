from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from lmm4rec.core.types import Embeddings
from lmm4rec.evaluation.beyond_accuracy import (
    coverage,
    diversity,
    exposure,
    exposure_by_value,
    gini,
    novelty,
    popularity_places,
    serendipity,
)
from lmm4rec.evaluation.ranking import top_k


def test_exposure_and_coverage_skip_the_padding() -> None:
    top = np.array([[2, 0, -1], [2, 4, 0], [2, -1, -1]])
    exposures = exposure(top, 6)
    assert exposures.tolist() == [2, 0, 3, 0, 1, 0]
    assert coverage(exposures) == 3 / 6


def test_gini_at_its_ends() -> None:
    assert gini(np.full(8, 3)) == 0
    assert gini(np.array([0, 0, 7, 0])) == pytest.approx(1 - 1 / 4)
    assert gini(np.zeros(3, dtype=np.int64)) == 0


def test_gini_is_half_the_relative_mean_absolute_difference() -> None:
    """Gini's own definition, over all pairs."""
    exposures = np.random.default_rng(0).poisson(2.0, size=57)
    pairs = np.abs(exposures[:, None] - exposures[None]).mean()
    assert gini(exposures) == pytest.approx(pairs / (2 * exposures.mean()), rel=1e-12)


def test_novelty_by_hand() -> None:
    counts = np.array([8, 4, 0, 4])  # shares 1/2, 1/4, (a cold item counts as one of) 1/16, 1/4
    assert novelty(np.array([1, 0, 0, 0]), counts) == 1
    assert novelty(np.array([3, 2, 1, 0]), counts) == pytest.approx((3 * 1 + 2 * 2 + 1 * 4) / 6)
    assert novelty(np.zeros(4, dtype=np.int64), counts) == 0


def test_diversity_by_hand() -> None:
    content = torch.tensor([[1.0, 0.0], [0.0, 5.0], [2.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    # cosines of the pairs (0, 1), (0, 2), (1, 2): 0, 1, 0; item 3 has no content, and -1 pads
    assert diversity(np.array([[0, 1, 2]]), content) == pytest.approx(2 / 3)
    assert diversity(np.array([[0, 3, 2], [0, 1, -1]]), content) == pytest.approx((0 + 1) / 2)
    assert diversity(np.array([[0, 4, -1]]), content) == pytest.approx(2)
    assert diversity(np.array([[3, 0, -1]]), content) == 0


def test_diversity_is_the_mean_over_all_pairs() -> None:
    rng = np.random.default_rng(0)
    content = rng.normal(size=(30, 6)).astype(np.float32)
    top = np.stack([rng.permutation(30)[:7] for _ in range(9)])
    unit = content / np.linalg.norm(content, axis=1, keepdims=True)
    pairs = [1 - unit[i] @ unit[j] for row in top for at, i in enumerate(row) for j in row[at + 1 :]]
    assert diversity(top, torch.from_numpy(content)) == pytest.approx(np.mean(pairs), rel=1e-5)


def test_serendipity_counts_hits_that_popularity_does_not_give() -> None:
    """By popularity the items are 2, 0, 1, 3; the second user has had item 2, so for it they are 0, 1, 3."""
    counts, hidden = np.array([3, 2, 9, 1]), sp.csr_array(np.array([[0, 0, 0, 0], [0, 0, 1, 0]], dtype=bool))
    top = np.array([[2, 1], [1, 3]])
    places = popularity_places(top, hidden, counts)
    assert places.tolist() == [[0, 2], [1, 2]]
    hits = np.array([[True, True], [True, True]])
    assert serendipity(hits, places) == pytest.approx((1 / 2 + 1 / 2) / 2)  # item 1 and item 3
    assert serendipity(hits[:, :1], places[:, :1]) == pytest.approx((0 / 1 + 1 / 1) / 2)


def test_places_by_popularity_are_those_of_a_ranking_by_it() -> None:
    rng = np.random.default_rng(0)
    counts = rng.poisson(2.0, size=40)  # with many ties
    hidden = sp.csr_array(rng.random((15, 40)) < 0.3)
    scorer = Embeddings(torch.ones(15, 1), torch.from_numpy(counts).float()[:, None])
    ranking = top_k(scorer, np.arange(15), 40, exclude=hidden).items
    places = popularity_places(ranking, hidden, counts)
    assert (places == np.arange(40))[ranking >= 0].all()
    assert (ranking >= 0).sum() == (~hidden.toarray()).sum()


def test_exposure_by_value_by_hand() -> None:
    shares = exposure_by_value(np.array([6, 0, 2, 0]), ["a", "b", "b", ""], np.array([1, 3, 4, 2]), most=2)
    assert list(shares) == ["b", ""]
    assert shares["b"] == pytest.approx({"lists": 2 / 8, "catalog": 2 / 4, "interactions": 7 / 10})
    assert shares[""] == pytest.approx({"lists": 0, "catalog": 1 / 4, "interactions": 2 / 10})
