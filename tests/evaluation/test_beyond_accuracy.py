from __future__ import annotations

import numpy as np
import pytest

from lmm4rec.evaluation.metrics import coverage, exposure, gini, novelty


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
