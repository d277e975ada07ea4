"""Comparisons against SciPy, statsmodels and hand-computed cases."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lmm4rec.core.errors import DataError
from lmm4rec.evaluation.significance import Comparison, holm
from lmm4rec.evaluation.significance import compare as compare_designs


def compare(first: np.ndarray, second: np.ndarray) -> Comparison:
    """The comparison of two deterministic designs: of users alone."""
    return compare_designs(first[None], second[None], deterministic=(True, True))


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    """Recall of 200 users by two models that agree a lot: many ties, many zeros."""
    rng = np.random.default_rng(0)
    first = rng.choice([0.0, 0.25, 0.5, 1.0], 200)
    return first, np.where(rng.random(200) < 0.7, first, rng.choice([0.0, 0.25, 0.5], 200))


def test_t_and_wilcoxon_are_those_of_scipy_and_statsmodels(pair: tuple[np.ndarray, np.ndarray]) -> None:
    weightstats = pytest.importorskip("statsmodels.stats.weightstats")
    found = compare(*pair)
    peer = stats.ttest_rel(*pair)
    t, p, _ = weightstats.DescrStatsW(pair[0] - pair[1]).ttest_mean(0)
    assert (found.t, found.t_p) == pytest.approx((peer.statistic, peer.pvalue))
    assert (found.t, found.t_p) == pytest.approx((t, p))
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(*pair).pvalue)
    assert found.better + found.worse < found.users == 200


def test_four_users_by_hand() -> None:
    """d = 1, 2, 3, 2: mean 2, sd sqrt(2/3), t = 2 / (sqrt(2/3) / 2) = 2 sqrt(6), d_z = sqrt(6)."""
    found = compare(np.array([2.0, 3.0, 4.0, 5.0]), np.array([1.0, 1.0, 1.0, 3.0]))
    assert found.difference == pytest.approx(2.0)
    assert found.effect == pytest.approx(math.sqrt(6))
    assert found.t == pytest.approx(2 * math.sqrt(6))
    assert found.wilcoxon_p == pytest.approx(2 / 2**4)  # all of one sign: the most extreme of 16 sign patterns, twice


def test_models_that_never_differ_are_no_finding() -> None:
    same = compare(np.ones(5), np.ones(5))
    assert (same.difference, same.t_p, same.wilcoxon_p, same.effect) == (0.0, 1.0, 1.0, 0.0)
    shifted = compare(np.full(5, 0.5), np.zeros(5))
    assert shifted.t == math.inf
    assert shifted.t_p == 0.0


@pytest.mark.long
@pytest.mark.parametrize("p", [[0.01, 0.04, 0.03, 0.005], [0.5], [0.2, 0.2, 0.9], [1e-9, 0.0, 0.6], []])
def test_holm_is_that_of_statsmodels(p: list[float]) -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    assert holm(p) == pytest.approx(list(multitest.multipletests(p, method="holm")[1]) if p else [])


def test_holm_by_hand() -> None:
    """0.005 * 4, 0.01 * 3, 0.03 * 2, then 0.04 * 1 which may not fall below 0.06."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_seeds_are_averaged_before_users_are_compared() -> None:
    """Of both users the first design is better by 0.5, averaged over its seeds."""
    found = compare_designs(np.array([[0.0, 1.0], [1.0, 1.0]]), np.array([[0.0, 0.5]]), deterministic=(False, True))
    assert (found.difference, found.better, found.worse) == (0.5, 2, 0)


def test_the_same_values_in_another_order_of_the_seeds_are_no_difference() -> None:
    """(0.1 + 0.2 + 0.3) / 3 and (0.3 + 0.2 + 0.1) / 3 differ in their last bit."""
    first = np.array([[0.1, 0.3, 0.7, 0.1], [0.2, 0.2, 0.6, 0.7], [0.3, 0.1, 0.1, 0.6]])
    assert (first.mean(0) != first[::-1].mean(0)).sum() >= 2
    found = compare_designs(first, first[::-1])
    assert (found.better, found.worse, found.wilcoxon_p, found.effect) == (0, 0, 1.0, 0.0)


def test_equal_differences_are_ties_whatever_their_last_bits() -> None:
    """|d| = 0.1, 0.1, 0.1, 0.3 have the ranks 2, 2, 2, 4; the negative one has 2.

    Of the 16 sign patterns 4 have a sum of at most 2: none negative, and each of the three ranks of 2; twice 4 / 16.
    """
    found = compare(np.array([0.4, 0.1, 0.2, 0.5]), np.array([0.3, 0.0, 0.3, 0.2]))
    assert found.wilcoxon_p == pytest.approx(0.5)
    assert (found.better, found.worse) == (3, 1)


def test_columns_that_do_not_pair_are_refused() -> None:
    with pytest.raises(DataError, match="the same users: 3 values here, 2 there"):
        compare(np.zeros(3), np.zeros(2))
    with pytest.raises(DataError, match="two users or more, got 1"):
        compare(np.zeros(1), np.zeros(1))
