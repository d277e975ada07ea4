"""Graph convolution whose layers are scaled by their similarity to the vectors that they started from (LayerGCN)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.matrices import select_rows, vectors_of_distinct
from lmm4rec.nn.scaled_by_cosine import scaled_by_cosine
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.unit_vectors import unit_vectors


def layer_refined(
    adjacency: SparseMatrix, nodes: Float[Tensor, "nodes *branches dim"], layers: int
) -> Float[Tensor, "nodes *branches dim"]:
    """x(1) + ... + x(`layers`) with x(l) = cos(A x(l-1), x(0)) · A x(l-1) (LayerGCN, arXiv 2207.11088).

    The cosine is that of a node's vector, in each branch its own.
    """
    start, total = unit_vectors(nodes), torch.zeros_like(nodes)
    for current in _layers(adjacency, nodes, start, layers):
        total = total + current
    return total


def layer_refined_at(
    adjacency: SparseMatrix, nodes: Float[Tensor, "nodes dim"], layers: int, *indices: Int[Tensor, ...]
) -> tuple[Float[Tensor, "... dim"], ...]:
    """`layer_refined` at some indices of any shape, a tensor for each; the last layer is not computed elsewhere."""
    start = unit_vectors(nodes)
    before = list(_layers(adjacency, nodes, start, layers - 1))
    last = before[-1] if before else nodes

    def at(rows: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen dim"]:
        refined = scaled_by_cosine(adjacency.at(rows, last), select_rows(start, rows))
        return refined + sum(select_rows(layer, rows) for layer in before)

    return vectors_of_distinct(at, *indices)


def _layers(adjacency: SparseMatrix, nodes: Tensor, start: Tensor, layers: int) -> Iterator[Tensor]:
    current = nodes
    for _ in range(layers):
        current = scaled_by_cosine(adjacency(current.flatten(1)).view_as(nodes), start)
        yield current
