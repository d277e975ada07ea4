"""Graphs of users and items: normalized, propagated, nearest neighbors."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.nn.sparse import SparseMatrix, SparsePattern, WeightedMatrix


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


def weighted_likes(graph: InteractionGraph, values: Float[Tensor, " edges"]) -> SparseMatrix:
    """Who liked what, users × items, with the given value at each edge."""
    return SparseMatrix(graph.users, graph.items, values, (graph.n_users, graph.n_items))


def pattern(graph: InteractionGraph) -> SparsePattern:
    """The places of `weighted_likes`, for values that change."""
    return SparsePattern(graph.users, graph.items, (graph.n_users, graph.n_items))


def symmetric_weights(graph: InteractionGraph, kept: Float[Tensor, " edges"] | None = None) -> Float[Tensor, " edges"]:
    """1 / sqrt(user's degree · item's degree) at each edge, the values of `normalize` (He 2020, eq. 3).

    With `kept`, 1 or 0 at each edge, the graph is the one of the kept edges: the others weigh 0 and count in no degree.
    """
    kept = torch.ones(len(graph.users), device=graph.users.device) if kept is None else kept
    users = torch.zeros(graph.n_users, device=kept.device).index_add_(0, graph.users, kept)
    items = torch.zeros(graph.n_items, device=kept.device).index_add_(0, graph.items, kept)
    return kept * (users[graph.users] * items[graph.items]).clamp(min=1).rsqrt()


def drop_edges(graph: InteractionGraph, share: float, generator: torch.Generator) -> Float[Tensor, " edges"]:
    """0 at a random `share` of the edges, each drawn by itself, and 1 at the others."""
    return (torch.rand(len(graph.users), generator=generator) >= share).float().to(graph.users.device)


def dropout(x: Float[Tensor, "*shape"], share: float, generator: torch.Generator) -> Float[Tensor, "*shape"]:
    """The tensor with a random `share` of its numbers zeroed and the others scaled up to make up for it."""
    kept = (torch.rand(x.shape, generator=generator) >= share).to(x.device)
    return x * kept / (1 - share)


def spread(likes: SparseMatrix | WeightedMatrix, nodes: Float[Tensor, "nodes dim"]) -> Float[Tensor, "nodes dim"]:
    """One step over the graph: each user gets the weighted sum of its items, each item that of its users.

    `nodes` are users, then items: the product with the whole adjacency, in its two blocks.
    """
    users = likes.shape[0]
    return torch.cat([likes(nodes[users:]), likes.reverse(nodes[:users])])


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
