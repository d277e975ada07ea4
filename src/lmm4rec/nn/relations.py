"""Relations of users to items that a model chooses, such as to the items whose content suits them best."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.core.matrices import dot_products, highest
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.unit_vectors import unit_vectors

_ROWS = 1024  # users whose similarities to all items are held at once


class Relations(nn.Module):
    """Relations of users and items: sums over a node's relations / sqrt(their number)."""

    user_scale: Tensor
    item_scale: Tensor

    def __init__(self, users: Int[Tensor, " edges"], items: Int[Tensor, " edges"], graph: InteractionGraph) -> None:
        super().__init__()
        shape = (graph.n_users, graph.n_items)
        self.matrix = SparseMatrix(users, items, torch.ones(len(users), device=users.device), shape)
        for name, rows, count in zip(("user_scale", "item_scale"), (users, items), shape, strict=True):
            scale = torch.bincount(rows, minlength=count).clamp(min=1).float().rsqrt()
            self.register_buffer(name, scale[:, None], persistent=False)

    def to_users(self, items: Float[Tensor, items * dims]) -> Float[Tensor, users * dims]:
        """The users' sums over items."""
        return (self.matrix(items.flatten(1)) * self.user_scale).view(-1, *items.shape[1:])

    def to_items(self, users: Float[Tensor, users * dims]) -> Float[Tensor, items * dims]:
        """The items' sums over users."""
        return (self.matrix.reverse(users.flatten(1)) * self.item_scale).view(-1, *users.shape[1:])


@torch.no_grad()
def nearest_items(
    users: Float[Tensor, "users modalities dim"],
    items: Float[Tensor, "items modalities dim"],
    graph: InteractionGraph,
    relations: int,
) -> list[Relations]:
    """Each user's items of highest cosine in each modality; an item or user whose vector is zero has none."""
    found = []
    for of_users, of_items in zip(users.unbind(1), items.unbind(1), strict=True):
        unit, empty = unit_vectors(of_items), ~of_items.any(dim=1)
        best = []
        for block in torch.split(of_users, _ROWS):
            scores = dot_products(block, unit)
            scores[:, empty] = -torch.inf
            scores[~block.any(dim=1)] = -torch.inf
            values, columns = highest(scores, min(relations, len(unit)))
            best.append(torch.where(values > -torch.inf, columns, -1))
        table = torch.cat(best)
        rows, places = (table >= 0).nonzero(as_tuple=True)
        found.append(Relations(rows, table[rows, places], graph))
    return found
