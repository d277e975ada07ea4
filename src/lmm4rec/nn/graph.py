"""Graphs of users and items: normalized, propagated, nearest neighbors."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.nn.sparse import SparseMatrix


class InteractionGraph(nn.Module):
    """Who liked what in training: distinct user-item edges."""

    users: Tensor
    items: Tensor

    def __init__(self, users: Int[Tensor, " edges"], items: Int[Tensor, " edges"], n_users: int, n_items: int) -> None:
        super().__init__()
        keys = torch.unique(users.long() * n_items + items.long())
        self.register_buffer("users", keys // n_items, persistent=False)
        self.register_buffer("items", keys % n_items, persistent=False)
        self.n_users, self.n_items = n_users, n_items

    @property
    def user_degrees(self) -> Int[Tensor, " users"]:
        """How many distinct items each user liked."""
        return torch.bincount(self.users, minlength=self.n_users)

    @property
    def item_degrees(self) -> Int[Tensor, " items"]:
        """How many distinct users liked each item."""
        return torch.bincount(self.items, minlength=self.n_items)


def normalize(graph: InteractionGraph) -> SparseMatrix:
    """The symmetrically normalized adjacency D^-1/2 A D^-1/2 over users, then items (He 2020, eq. 3 and 7).

    Nodes without an edge keep an empty row.
    """
    degrees = torch.cat([graph.user_degrees, graph.item_degrees]).float()
    scale = degrees.clamp(min=1).rsqrt()
    users, items = graph.users, graph.items + graph.n_users
    values = scale[users] * scale[items]
    nodes = graph.n_users + graph.n_items
    return SparseMatrix(torch.cat([users, items]), torch.cat([items, users]), values.repeat(2), (nodes, nodes))


def propagate(adjacency: SparseMatrix, nodes: Float[Tensor, "nodes dim"], layers: int) -> Float[Tensor, "nodes dim"]:
    """The mean of the nodes' vectors after 0, 1, ..., `layers` steps over the graph (He 2020, eq. 4 and 8)."""
    total = current = nodes
    for _ in range(layers):
        current = adjacency(current)
        total = total + current
    return total / (layers + 1)


def nearest(
    vectors: Float[Tensor, "items dim"], k: int, *, block: int = 2048
) -> tuple[Float[Tensor, "items k"], Int[Tensor, "items k"]]:
    """The cosine similarities and rows of each item's `k` nearest other items, in blocks of `block` rows.

    Memory is block × items, never items × items. A zero vector has similarity 0 to everything.
    """
    unit = F.normalize(vectors, dim=1)
    k = min(k, len(unit) - 1)
    similarities, neighbors = [], []
    for start in range(0, len(unit), block):
        scores = unit[start : start + block] @ unit.T
        rows = torch.arange(len(scores), device=scores.device)
        scores[rows, rows + start] = -torch.inf
        top = scores.topk(k, dim=1)
        similarities.append(top.values)
        neighbors.append(top.indices)
    return torch.cat(similarities), torch.cat(neighbors)
