"""Views of nodes: the shared part, the gap of two views' moments, and noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmm4rec.nn.projections import Affine
from lmm4rec.nn.views import moment_gaps, perturbed, shared_and_specific


def test_shared_part_is_the_attended_mean() -> None:
    views = torch.tensor([[[1.0, 0.0], [3.0, 2.0]]])
    query = Affine(2, 2, torch.Generator())
    with torch.no_grad():
        query.weight.copy_(torch.eye(2))
        shared, specific = shared_and_specific(views, query, torch.tensor([[0.0], [2.0]]))
    first = 1 / (1 + np.exp(2 * np.tanh(2)))  # the first view has 0 in the column that is asked for
    expected = np.array([first + 3 * (1 - first), 2 * (1 - first)])
    np.testing.assert_allclose(shared[0], expected, rtol=1e-6)
    np.testing.assert_allclose(specific[0], np.array([[1, 0], [3, 2]]) - expected, rtol=1e-5)


def test_moment_gaps_by_hand() -> None:
    one, other = torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 5.0]])  # variances 2 and 8, means 1 and 3
    assert float(moment_gaps([one, other])) == pytest.approx(6 + 2)
    third = torch.tensor([[1.0, 1.0, 1.0]])  # variance 0, mean 1: gaps of 2 and 8 + 2
    assert float(moment_gaps([one, other, third])) == pytest.approx(8 + 2 + 10)


def test_noise_has_its_length_and_keeps_signs() -> None:
    x = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    noisy = perturbed(x, torch.Generator().manual_seed(1), 0.3)
    torch.testing.assert_close((noisy - x).norm(dim=1), torch.full((50,), 0.3))
    assert torch.equal(noisy.sign(), x.sign())
