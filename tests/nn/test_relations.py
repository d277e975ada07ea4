"""Relations that a model chooses."""

from __future__ import annotations

import torch

from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.relations import Relations, nearest_items


def graph() -> InteractionGraph:
    return InteractionGraph(torch.tensor([0, 1]), torch.tensor([0, 1]), 3, 3)


def test_sums_by_the_root_of_their_number() -> None:
    relations = Relations(torch.tensor([0, 0, 2]), torch.tensor([0, 1, 0]), graph())
    items = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    half = 2**-0.5
    expected = torch.tensor([[4 * half, 6 * half], [0, 0], [1, 2]])
    torch.testing.assert_close(relations.to_users(items), expected)
    torch.testing.assert_close(relations.to_items(items), torch.tensor([[6 * half, 8 * half], [1, 2], [0, 0]]))


def test_the_nearest_items_by_cosine_without_those_that_have_no_content() -> None:
    users = torch.tensor([[[1.0, 0.0]], [[0.0, 0.0]], [[-1.0, -1.0]]])
    items = torch.tensor([[[5.0, 5.0]], [[0.5, 0.0]], [[0.0, 0.0]]])
    (one,) = nearest_items(users, items, graph(), 1)
    assert one.matrix.matrix.to_dense().nonzero().tolist() == [
        [0, 1],
        [2, 1],
    ]  # the last user's cosines are -1 and -0.7
    (all_three,) = nearest_items(users, items, graph(), 3)
    assert all_three.matrix.matrix.to_dense().nonzero().tolist() == [[0, 0], [0, 1], [2, 0], [2, 1]]
