"""The distinct users and items of a batch, so that what is computed by node is computed once for each."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from lmm4rec.core.types import Batch


class BatchNodes(NamedTuple):
    """The distinct nodes of a batch; `rows` are places among the users, followed by the items."""

    users: Int[Tensor, " users"]
    items: Int[Tensor, " items"]
    rows: Int[Tensor, "batch nodes"]  # of each triple: the user, the positive item, the negative ones


def distinct_nodes(batch: Batch) -> BatchNodes:
    """The distinct users and items of a batch."""
    users, user_places = torch.unique(batch.users, return_inverse=True)
    both = torch.cat([batch.positives[:, None], batch.negatives], dim=1)
    items, item_places = torch.unique(both, return_inverse=True)
    return BatchNodes(users, items, torch.cat([user_places[:, None], item_places + len(users)], dim=1))
