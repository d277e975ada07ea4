"""Graph convolution whose layers are scaled by their similarity to the vectors that they started from (LayerGCN)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.matrices import select_rows, vectors_of_distinct
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.unit_vectors import unit_vectors

_ROWS = 2048  # in a block, which stays in the cache from one operation to the next
_SHORTEST = 1e-8


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
    start, current, total = unit_vectors(nodes), nodes, torch.zeros_like(nodes)
    for current in _layers(adjacency, nodes, start, layers - 1):
        total = total + current

    def at(rows: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen dim"]:
        return select_rows(total, rows) + _scaled(adjacency.at(rows, current), select_rows(start, rows))

    return vectors_of_distinct(at, *indices)


def _layers(adjacency: SparseMatrix, nodes: Tensor, start: Tensor, layers: int) -> Iterator[Tensor]:
    current = nodes
    for _ in range(layers):
        current = _scaled(adjacency(current.flatten(1)).view_as(nodes), start)
        yield current


def _scaled(rows: Float[Tensor, "*rows dim"], unit: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """cos(h, s) · h for rows h and rows s of length 1."""
    flat = rows.flatten(0, -2), unit.flatten(0, -2)
    return cast(Tensor, _ScaledByCosine.apply(*flat)).view_as(rows)  # type: ignore[no-untyped-call]


class _ScaledByCosine(torch.autograd.Function):
    """`_scaled` with its gradient.

    With c = h · s / |h| and a = g · h / |h| for the gradient g, the gradients are c g + a (s - c h / |h|) of h, a h of
    s. Vectors shorter than 1e-8 count as of that length.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, unit: Tensor) -> Tensor:
        scaled, lengths, cosines = torch.empty_like(rows), rows.new_empty(len(rows), 1), rows.new_empty(len(rows), 1)
        for at in _blocks(len(rows)):
            h = rows[at]
            lengths[at, 0] = torch.linalg.vecdot(h, h).sqrt_().clamp_(min=_SHORTEST)
            cosines[at, 0] = torch.linalg.vecdot(h, unit[at])
            cosines[at] /= lengths[at]
            torch.mul(h, cosines[at], out=scaled[at])
        ctx.save_for_backward(rows, unit, lengths, cosines)
        return scaled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        rows, unit, lengths, cosines = ctx.saved_tensors
        of_rows, of_unit = torch.empty_like(rows), torch.empty_like(rows)
        for at in _blocks(len(rows)):
            h, g, length, cosine = rows[at], gradients[0][at], lengths[at], cosines[at]
            along = torch.linalg.vecdot(g, h)[:, None] / length
            torch.mul(h, along, out=of_unit[at])
            torch.mul(g, cosine, out=of_rows[at])
            of_rows[at].addcmul_(unit[at], along).addcmul_(h, along * cosine / length, value=-1)
        return of_rows, of_unit


def _blocks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _ROWS):
        yield slice(start, min(start + _ROWS, rows))
