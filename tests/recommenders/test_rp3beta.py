"""RP3beta against a case computed by hand and against the product of the paper's transition matrices."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from small import ITEMS, USERS, graph, interactions

from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.rp3beta import RP3beta

NO_RANDOMNESS = torch.Generator()


def test_three_items_by_hand() -> None:
    """User 0 has items 0 and 1, user 1 items 1 and 2.

    From item 0 the walk goes to user 0 and to item 1 with probability 1/2; from item 1 with 1/2 to each user and then
    with 1/2 to item 0 or 2: 1/4. With α = 1 and β = 1 the scores of item 1, which has two users, are halved.
    """
    users, items = torch.tensor([[0, 0, 1, 1], [0, 1, 1, 2]])
    model = RP3beta(InteractionGraph(users, items, 2, 3), {}, NO_RANDOMNESS, alpha=1.0, beta=1.0)
    expected = torch.tensor([[0.0, 0.25, 0.0], [0.25, 0.0, 0.25], [0.0, 0.25, 0.0]])  # from the row's item
    torch.testing.assert_close(model.embed({}).similarity.to_dense().T, expected)
    torch.testing.assert_close(
        model.embed({}).scores(torch.arange(2)), torch.tensor([[0.25, 0.25, 0.25], [0.25, 0.25, 0.25]])
    )


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (0.7, 0.4)])
def test_scores_are_the_walks_of_three_steps(alpha: float, beta: float) -> None:
    """P_ui^α P_iu^α P_ui^α, divided by popularity^β, for items that the user lacks: the others are not ranked.

    The first step only scales a user's scores.
    """
    x = interactions()
    to_items = (x / np.maximum(x.sum(1, keepdims=True), 1)) ** alpha
    to_users = (x.T / np.maximum(x.T.sum(1, keepdims=True), 1)) ** alpha
    walks = to_items @ to_users @ to_items / np.maximum(x.sum(0), 1) ** beta
    walks *= np.maximum(x.sum(1, keepdims=True), 1) ** alpha
    scores = RP3beta(graph(), {}, NO_RANDOMNESS, alpha=alpha, beta=beta, neighbors=ITEMS).embed({})
    ranked = x == 0
    np.testing.assert_allclose(scores.scores(torch.arange(USERS)).numpy()[ranked], walks[ranked], rtol=1e-5)


def test_an_item_counts_for_its_neighbors_only() -> None:
    scorer = RP3beta(graph(), {}, NO_RANDOMNESS, beta=0.0, neighbors=1).embed({})
    whole = RP3beta(graph(), {}, NO_RANDOMNESS, beta=0.0, neighbors=ITEMS).embed({})
    kept, full = scorer.similarity.to_dense().T, whole.similarity.to_dense().T
    assert ((kept > 0).sum(1) <= 1).all()
    torch.testing.assert_close(kept.amax(1), full.amax(1))
