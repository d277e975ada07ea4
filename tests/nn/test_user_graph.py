"""The user co-occurrence graph against counts by hand."""

from __future__ import annotations

import numpy as np
import torch

from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.user_graph import co_occurrence

# user 0 shares two items with user 1, one with 2; user 3 shares none; users 1 and 2 share item 1
USERS, ITEMS = torch.tensor([(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (2, 1), (3, 3)]).T


def test_neighbors_share_items_and_weigh_by_the_softmax_of_their_number() -> None:
    graph = InteractionGraph(USERS, ITEMS, 5, 4)
    e = np.e
    expected = [
        [0, e**2 / (e**2 + e), e / (e**2 + e), 0, 0],
        [e**2 / (e**2 + e), 0, e / (e**2 + e), 0, 0],
        [0.5, 0.5, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
    ]
    np.testing.assert_allclose(co_occurrence(graph, 3).matrix.to_dense(), expected, rtol=1e-6)


def test_the_nearest_alone_are_kept() -> None:
    dense = co_occurrence(InteractionGraph(USERS, ITEMS, 5, 4), 1).matrix.to_dense()
    assert dense[0].tolist() == [0, 1, 0, 0, 0]
    assert (dense > 0).sum(1).tolist() == [1, 1, 1, 0, 0]


def test_large_counts_do_not_overflow() -> None:
    items = torch.arange(200).repeat(3)
    graph = InteractionGraph(torch.arange(3).repeat_interleave(200), items, 3, 200)
    assert torch.isfinite(co_occurrence(graph, 2).matrix.values()).all()
