"""The distinct nodes of a batch, by hand."""

from __future__ import annotations

import torch

from lmm4rec.core.types import Batch
from lmm4rec.nn.batch_nodes import distinct_nodes


def test_each_node_is_there_once_and_rows_find_it() -> None:
    nodes = distinct_nodes(
        Batch(torch.tensor([7, 3, 7]), torch.tensor([5, 2, 2]), torch.tensor([[2, 9], [5, 5], [0, 9]]))
    )
    assert nodes.users.tolist() == [3, 7]
    assert nodes.items.tolist() == [0, 2, 5, 9]
    # users 3, 7 are the places 0, 1; the items 0, 2, 5, 9 the places 2, 3, 4, 5
    assert nodes.rows.tolist() == [[1, 4, 3, 5], [0, 3, 4, 4], [1, 3, 2, 5]]
