"""The interaction graph of users and items: normalization, propagation, pruning; and nearest neighbors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.core.matrices import dot_products, highest, select_rows, vectors_of_distinct
from lmm4rec.core.sequences import Sequences
from lmm4rec.distributed import batch_rows
from lmm4rec.nn.csr import csr
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.weighted_matrix import SparsePattern, WeightedMatrix

_BLOCK_ENTRIES = 2**26  # similarities held at once: 256 MiB


class InteractionGraph(nn.Module):
    """The training interactions as distinct user-item edges; `weights` of the same edge are added (None: all are 1).

    Where they are passed `in_order` of time, the graph also has the users' `sequences`.
    """

    users: Tensor
    items: Tensor
    weights: Tensor | None
    _sequence_items: Tensor | None
    _sequence_counts: Tensor | None

    def __init__(
        self,
        users: Int[Tensor, " edges"],
        items: Int[Tensor, " edges"],
        n_users: int,
        n_items: int,
        weights: Float[Tensor, " edges"] | None = None,
        *,
        in_order: bool = False,
    ) -> None:
        super().__init__()
        sequences = Sequences.of(users, items, n_users) if in_order else None
        self.register_buffer("_sequence_items", None if sequences is None else sequences.items, persistent=False)
        self.register_buffer("_sequence_counts", None if sequences is None else sequences.counts, persistent=False)
        keys = users.long() * n_items + items.long()
        if weights is None:
            keys = torch.unique(keys)
        else:
            keys, edges = torch.unique(keys, return_inverse=True)
            weights = weights.new_zeros(len(keys)).index_add_(0, edges, weights)
        self.register_buffer("weights", weights, persistent=False)
        self.register_buffer("users", keys // n_items, persistent=False)
        self.register_buffer("items", keys % n_items, persistent=False)
        self.n_users, self.n_items = n_users, n_items

    @property
    def user_degrees(self) -> Int[Tensor, " users"]:
        """The number of distinct items of each user."""
        return torch.bincount(self.users, minlength=self.n_users)

    @property
    def item_degrees(self) -> Int[Tensor, " items"]:
        """The number of distinct users of each item."""
        return torch.bincount(self.items, minlength=self.n_items)

    @property
    def sequences(self) -> Sequences:
        """The users' items in the order of time; by item row where the graph was built without an order."""
        if self._sequence_items is None or self._sequence_counts is None:
            return Sequences(self.items, self.user_degrees)
        return Sequences(self._sequence_items, self._sequence_counts)

    def sides(self, nodes: Float[Tensor, "nodes dim"]) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        """The users' rows and the items' rows of a matrix of all nodes."""
        return nodes[: self.n_users], nodes[self.n_users :]

    def only(self, edges: Int[Tensor, " kept"]) -> InteractionGraph:
        """The graph of the given edges only."""
        weights = None if self.weights is None else self.weights[edges]
        return InteractionGraph(self.users[edges], self.items[edges], self.n_users, self.n_items, weights)


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
        "symmetric": lambda: symmetric_weights(graph),
    }[kind]()
    return weighted_interactions(graph, values)


def histories(graph: InteractionGraph) -> Tensor:
    """The matrix [users, items] of the interactions as ones, in CSR."""
    ones = torch.ones(len(graph.users), device=graph.users.device)
    return csr(graph.users, graph.items, ones, (graph.n_users, graph.n_items))


def after_steps(
    adjacency: Callable[[Tensor], Tensor], nodes: Float[Tensor, "nodes dim"], layers: int
) -> Float[Tensor, "nodes dim"]:
    """The nodes' vectors after `layers` steps over the graph."""
    for _ in range(layers):
        nodes = adjacency(nodes)
    return nodes


def propagate(
    adjacency: Callable[[Tensor], Tensor], nodes: Float[Tensor, "nodes dim"], layers: int
) -> Float[Tensor, "nodes dim"]:
    """The mean of the nodes' vectors after 0, 1, ..., `layers` steps over the graph (He 2020, eq. 4 and 8)."""
    if isinstance(adjacency, SparseMatrix):
        return adjacency.mean_of_steps(nodes, layers)
    total = current = nodes
    for _ in range(layers):
        current = adjacency(current)
        total = total + current
    return total / (layers + 1)


def propagate_to(
    adjacency: Callable[[Tensor], Tensor], nodes: Float[Tensor, "nodes dim"], layers: int, *indices: Int[Tensor, ...]
) -> tuple[Float[Tensor, "... dim"], ...]:
    """What `propagate` gives for the nodes at some indices of any shape, a tensor for each: less work than for all."""
    if isinstance(adjacency, SparseMatrix):
        return vectors_of_distinct(lambda rows: adjacency.mean_of_steps_at(nodes, layers, rows), *indices)
    vectors = propagate(adjacency, nodes, layers)
    return tuple(select_rows(vectors, index) for index in indices)


def weighted_interactions(graph: InteractionGraph, values: Float[Tensor, " edges"]) -> SparseMatrix:
    """The matrix [users, items] with the given value at each edge."""
    return SparseMatrix(graph.users, graph.items, values, (graph.n_users, graph.n_items))


def pattern(graph: InteractionGraph) -> SparsePattern:
    """The pattern of `weighted_interactions`, for values that change."""
    return SparsePattern(graph.users, graph.items, (graph.n_users, graph.n_items))


def symmetric_weights(graph: InteractionGraph, kept: Float[Tensor, " edges"] | None = None) -> Float[Tensor, " edges"]:
    """1 / sqrt(user's degree · item's degree) at each edge, the values of `normalize` (He 2020, eq. 3).

    With `kept`, 1 or 0 at each edge, the graph is that of the kept edges: the others get 0 and count in no degree.
    """
    kept = torch.ones(len(graph.users), device=graph.users.device) if kept is None else kept
    users = torch.zeros(graph.n_users, device=kept.device).index_add_(0, graph.users, kept)
    items = torch.zeros(graph.n_items, device=kept.device).index_add_(0, graph.items, kept)
    return kept * (users[graph.users] * items[graph.items]).clamp(min=1).rsqrt()


def drop_edges(graph: InteractionGraph, share: float, generator: torch.Generator) -> Float[Tensor, " edges"]:
    """0 or 1 for each edge, independently: 0 with probability `share`."""
    return (torch.rand(len(graph.users), generator=generator) >= share).float().to(graph.users.device)


def dropout(
    x: Float[Tensor, "*shape"], share: float, generator: torch.Generator, *, of_batch: bool = False
) -> Float[Tensor, "*shape"]:
    """The tensor with a random `share` of its entries set to 0 and the others scaled by 1 / (1 - `share`).

    `of_batch`: its rows are those of a batch, which several processes may share.
    """
    draw = batch_rows.uniform if of_batch else torch.rand
    kept = (draw(x.shape, generator=generator) >= share).to(x.device)
    return x * kept / (1 - share)


def prune_edges(graph: InteractionGraph, rate: float, generator: torch.Generator) -> InteractionGraph:
    """The graph of floor(edges · (1 - rate)) edges, at least one, sampled by `symmetric_weights` without replacement.

    Edges between popular nodes are the likeliest to be dropped (FREEDOM, arXiv 2211.06924, sec. 3.2).
    """
    weights = symmetric_weights(graph).to(generator.device)
    kept = weighted_sample(weights, max(1, int(len(weights) * (1 - rate))), generator)
    return graph.only(kept.to(graph.users.device))


def weighted_sample(
    weights: Float[Tensor, " population"], k: int, generator: torch.Generator
) -> Int[Tensor, " sample"]:
    """The indices of `k` distinct entries, drawn by their weights one after the other; in no order.

    They have the smallest of the exponential variables whose rates are the weights (Efraimidis and Spirakis 2006, doi
    10.1016/j.ipl.2005.11.003). `torch.multinomial` draws the same ones, but refuses more than 2^24 entries.
    """
    times = torch.empty_like(weights).exponential_(generator=generator)
    return (weights / times).topk(k, sorted=False).indices


def spread(
    interactions: SparseMatrix | WeightedMatrix, nodes: Float[Tensor, "nodes dim"]
) -> Float[Tensor, "nodes dim"]:
    """One step over the graph: each user is the weighted sum of its items, each item that of its users.

    `nodes` are users, then items: the product with the whole adjacency, in its two blocks.
    """
    users = interactions.shape[0]
    return torch.cat([interactions(nodes[users:]), interactions.reverse(nodes[:users])])


def nearest(
    vectors: Float[Tensor, "items dim"], k: int, *, cosine: bool = True, block: int | None = None
) -> tuple[Float[Tensor, "items k"], Int[Tensor, "items k"]]:
    """The similarities and rows of each item's `k` most similar other items, in blocks of `block` rows.

    Similarities are cosines, or without `cosine` dot products. Memory is block × items (by default at most 256 MiB),
    never items × items, and the vectors are not copied. A zero vector has similarity 0 to everything.
    """
    k = min(k, len(vectors) - 1)
    block = block or _rows_per_block(vectors)
    lengths = torch.linalg.vector_norm(vectors, dim=1).clamp(min=1e-12)
    scale = 1.0 / lengths if cosine else torch.ones_like(lengths)
    similarities, neighbors = [], []
    for start in range(0, len(vectors), block):
        scores = dot_products(vectors[start : start + block] * scale[start : start + block, None], vectors)
        scores *= scale
        rows = torch.arange(len(scores), device=scores.device)
        scores[rows, rows + start] = -torch.inf
        values, columns = highest(scores, k)
        similarities.append(values)
        neighbors.append(columns)
    return torch.cat(similarities), torch.cat(neighbors)


def _rows_per_block(vectors: Float[Tensor, "items dim"]) -> int:
    """The number of rows in a block; few where vectors are short, for a CPU's cache."""
    n, width = vectors.shape
    wanted = min(2048, max(256, width // 2)) if vectors.device.type == "cpu" else 2048
    return max(1, min(wanted, _BLOCK_ENTRIES // n))
