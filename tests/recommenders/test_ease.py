"""EASE against a case computed by hand and against the problem that it solves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import ITEMS, USERS, graph, interactions

from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.ease import EASE

NO_RANDOMNESS = torch.Generator()


def test_four_items_by_hand() -> None:
    """Items 0 and 1 share their two users, items 2 and 3 one user each of their own.

    XᵀX + λI has the blocks [[3, 2], [2, 3]] and [[2]], [[2]] for λ = 1. P of the first is [[3, -2], [-2, 3]] / 5, so
    B between items 0 and 1 is -(-2/5) / (3/5) = 2/3, and all else is 0.
    """
    users, items = torch.tensor([[0, 0, 1, 1, 2, 3], [0, 1, 0, 1, 2, 3]])
    scorer = EASE(InteractionGraph(users, items, 4, 4), {}, NO_RANDOMNESS, l2_weight=1.0).embed({})
    expected = torch.zeros(4, 4)
    expected[0, 1] = expected[1, 0] = 2 / 3
    torch.testing.assert_close(scorer.similarity, expected)
    scores = scorer.scores(torch.arange(4))
    torch.testing.assert_close(scores, torch.tensor([[2 / 3, 2 / 3, 0, 0], [2 / 3, 2 / 3, 0, 0], [0.0] * 4, [0.0] * 4]))


@pytest.mark.parametrize("l2_weight", [0.5, 3.0])
def test_the_matrix_solves_the_ridge_regression_of_each_item_on_the_others(l2_weight: float) -> None:
    """Column i of B, as a regression without item i among the predictors; one item has no interaction at all."""
    x = interactions()
    expected = np.zeros((ITEMS, ITEMS))
    for item in range(ITEMS):
        others = [other for other in range(ITEMS) if other != item]
        gram = x[:, others].T @ x[:, others] + l2_weight * np.eye(ITEMS - 1)
        expected[others, item] = np.linalg.solve(gram, x[:, others].T @ x[:, item])
    scorer = EASE(graph(), {}, NO_RANDOMNESS, l2_weight=l2_weight).embed({})
    np.testing.assert_allclose(scorer.similarity.numpy().T, expected, atol=1e-7)
    np.testing.assert_allclose(scorer.scores(torch.arange(USERS)).numpy(), x @ expected, atol=1e-6)
