"""Graphs of users and items: normalized, propagated, thinned, nearest neighbors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.nn.sparse import SparseMatrix, SparsePattern, WeightedMatrix

_BLOCK_ENTRIES = 2**26  # similarities held at once: 256 MiB


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

    @property
    def edge_weights(self) -> Float[Tensor, " edges"]:
        """1 / sqrt(user's degree · item's degree) of each edge."""
        users, items = (degrees.clamp(min=1).float().rsqrt() for degrees in (self.user_degrees, self.item_degrees))
        return users[self.users] * items[self.items]

    def sides(self, nodes: Float[Tensor, "nodes dim"]) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        """A table of all nodes as its users' part and its items' part."""
        return nodes[: self.n_users], nodes[self.n_users :]

    def only(self, edges: Int[Tensor, " kept"]) -> InteractionGraph:
        """The graph with the given edges alone."""
        return InteractionGraph(self.users[edges], self.items[edges], self.n_users, self.n_items)


def normalize(
    graph: InteractionGraph, kind: Literal["symmetric", "row"] = "symmetric", *, self_loops: bool = False
) -> SparseMatrix:
    """The normalized adjacency over users, then items: D^-1/2 A D^-1/2 (He 2020, eq. 3 and 7), or by row D^-1 A.

    With `self_loops`, A has ones on its diagonal (and D counts them). Without, nodes that have no edge keep an empty
    row.
    """
    nodes = graph.n_users + graph.n_items
    users, items = graph.users, graph.items + graph.n_users
    loops = torch.arange(nodes if self_loops else 0, device=users.device)
    rows, columns = torch.cat([users, items, loops]), torch.cat([items, users, loops])
    degrees = torch.bincount(rows, minlength=nodes).clamp(min=1).float()
    values = 1.0 / degrees[rows] if kind == "row" else degrees.rsqrt()[rows] * degrees.rsqrt()[columns]
    return SparseMatrix(rows, columns, values, (nodes, nodes), symmetric=kind == "symmetric")


def user_item(graph: InteractionGraph, kind: Literal["sum", "mean", "symmetric"]) -> SparseMatrix:
    """The matrix [users, items] that gathers a user's items: their sum, their mean, or weighted as in `normalize`."""
    values = {
        "sum": lambda: torch.ones_like(graph.users, dtype=torch.float32),
        "mean": lambda: 1.0 / graph.user_degrees.float()[graph.users],
        "symmetric": lambda: graph.edge_weights,
    }[kind]()
    return SparseMatrix(graph.users, graph.items, values, (graph.n_users, graph.n_items))


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


def prune_edges(graph: InteractionGraph, rate: float, generator: torch.Generator) -> InteractionGraph:
    """The graph of floor(edges · (1 - rate)) edges, at least one, drawn without replacement by their `edge_weights`.

    Edges between popular nodes go first (FREEDOM, arXiv 2211.06924, sec. 3.2).
    """
    weights = graph.edge_weights.to(generator.device)
    kept = torch.multinomial(weights, max(1, int(len(weights) * (1 - rate))), generator=generator)
    return graph.only(kept.to(graph.users.device))


def spread(likes: SparseMatrix | WeightedMatrix, nodes: Float[Tensor, "nodes dim"]) -> Float[Tensor, "nodes dim"]:
    """One step over the graph: each user gets the weighted sum of its items, each item that of its users.

    `nodes` are users, then items. The product with the whole adjacency, in its two blocks: each has half of the
    vectors to look up, which a processor's cache holds, so that both take a third of the time of the whole.
    """
    users = likes.shape[0]
    return torch.cat([likes(nodes[users:]), likes.reverse(nodes[:users])])


@dataclass(frozen=True)
class Branches:
    """What LightGCN makes of several tables of items over one table of users, branch by branch.

    The graph convolution is linear, so what users send and what items send are carried apart: the users' part is the
    same in all branches, and each step of a one-sided part has half the edges to walk.
    """

    users: Float[Tensor, "users branches dim"]
    items: Float[Tensor, "items branches dim"]
    users_alone: Float[Tensor, "users dim"]  # a branch of `users` whose items were all zero
    items_alone: Float[Tensor, "items dim"]  # the same of `items`


def replace_branch(
    nodes: Float[Tensor, "rows branches dim"], branch: int, instead: Float[Tensor, "rows dim"]
) -> Float[Tensor, "rows branches dim"]:
    """The vectors with one branch taken from elsewhere."""
    chosen = torch.arange(nodes.shape[1], device=nodes.device)[:, None] == branch
    return torch.where(chosen, instead[:, None], nodes)


def convolve(
    likes: SparseMatrix | WeightedMatrix,
    users: Float[Tensor, "users dim"],
    items: Float[Tensor, "items branches dim"],
    layers: int,
) -> Branches:
    """The mean over layers 0, 1, ..., `layers` of each branch's vectors (He 2020, eq. 4 and 8)."""
    own_users, far_items = _one_sided(likes.reverse, likes, users, layers)
    own_items, far_users = _one_sided(likes, likes.reverse, items.flatten(1), layers)
    return Branches(
        own_users[:, None] + far_users.view(len(users), *items.shape[1:]),
        own_items.view_as(items) + far_items[:, None],
        own_users,
        far_items,
    )


def _one_sided(
    away: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor], sent: Tensor, layers: int
) -> tuple[Tensor, Tensor]:
    """What one side sends, as a mean over layers: where it is (even layers) and on the other side (odd layers)."""
    here, there = sent, sent.new_zeros(())
    for layer in range(layers):
        if layer % 2:
            sent = back(sent)
            here = here + sent
        else:
            sent = away(sent)
            there = there + sent
    return here / (layers + 1), there / (layers + 1)


def nearest(
    vectors: Float[Tensor, "items dim"], k: int, *, block: int | None = None
) -> tuple[Float[Tensor, "items k"], Int[Tensor, "items k"]]:
    """The cosine similarities and rows of each item's `k` nearest other items, in blocks of `block` rows.

    Memory is block × items (by default at most 256 MiB), never items × items, and the vectors are not copied. A zero
    vector has similarity 0 to everything.
    """
    k = min(k, len(vectors) - 1)
    block = block or max(1, min(2048, _BLOCK_ENTRIES // len(vectors)))
    scale = 1.0 / torch.linalg.vector_norm(vectors, dim=1).clamp(min=1e-12)
    similarities, neighbors = [], []
    for start in range(0, len(vectors), block):
        scores = (vectors[start : start + block] * scale[start : start + block, None]) @ vectors.T
        scores *= scale
        rows = torch.arange(len(scores), device=scores.device)
        scores[rows, rows + start] = -torch.inf
        top = scores.topk(k, dim=1)
        similarities.append(top.values)
        neighbors.append(top.indices)
    return torch.cat(similarities), torch.cat(neighbors)
