"""Graphs of alike items, as lists of entries whose values may carry gradient."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.nn.graph import nearest
from lmm4rec.nn.sparse import SparseMatrix

_ENTRY_BLOCK = 2**18  # entries whose two rows are gathered at once


class Entries(NamedTuple):
    """The entries of a sparse matrix; the values may carry gradient."""

    rows: Int[Tensor, " entries"]
    columns: Int[Tensor, " entries"]
    values: Float[Tensor, " entries"]


class EntryTable(nn.Module):
    """Constant entries that move with the model."""

    rows: Tensor
    columns: Tensor
    values: Tensor

    def __init__(self, entries: Entries) -> None:
        super().__init__()
        for name, part in entries._asdict().items():
            self.register_buffer(name, part, persistent=False)

    def forward(self) -> Entries:
        """The entries."""
        return Entries(self.rows, self.columns, self.values)


@torch.no_grad()
def neighborhood(vectors: Float[Tensor, "items dim"], k: int, *, block: int | None = None) -> Entries:
    """Each item with its `k` most similar ones, itself (similarity 1) among them; values are cosine similarities.

    An item whose vector is zero has no entry, neither as row nor as column.
    """
    others, neighbors = nearest(vectors, k - 1, block=block)
    present = torch.linalg.vector_norm(vectors, dim=1) > 0
    rows = torch.arange(len(vectors), device=vectors.device)
    columns = torch.cat([rows[:, None], neighbors], dim=1)
    values = torch.cat([others.new_ones(len(vectors), 1), others], dim=1)
    kept = present[:, None] & present[columns]
    return Entries(rows[:, None].expand_as(columns)[kept], columns[kept], values[kept])


def similarities(vectors: Float[Tensor, "items dim"], entries: Entries) -> Entries:
    """The same entries with the cosine similarities of these vectors; differentiable in the vectors."""
    unit = F.normalize(vectors, dim=1)
    values = (unit.index_select(0, entries.rows) * unit.index_select(0, entries.columns)).sum(1)
    return entries._replace(values=values)


def normalize_entries(entries: Entries, items: int) -> Entries:
    """D^-1/2 S D^-1/2 with D the sums of the rows of S; differentiable. Rows that sum to 0 or less become zero."""
    rows, columns, values = entries
    degrees = values.new_zeros(items).index_add(0, rows, values)
    scale = torch.where(degrees > 0, degrees, torch.inf).rsqrt()
    return entries._replace(values=scale[rows] * values * scale[columns])


def add(matrices: Iterable[Entries], shape: tuple[int, int]) -> Entries:
    """The sum of sparse matrices, each (row, column) pair once; differentiable in their values."""
    rows, columns, values = (torch.cat(part) for part in zip(*matrices, strict=True))
    keys, place = torch.unique(rows * shape[1] + columns, return_inverse=True)
    total = values.new_zeros(len(keys)).index_add(0, place, values)
    return Entries(keys // shape[1], keys % shape[1], total)


class _EntryProduct(torch.autograd.Function):
    """Sparse times dense with the gradient of both sides; that of the values never leaves the given entries."""

    @staticmethod
    def forward(
        ctx: Any, matrix: Tensor, transposed: Tensor, rows: Tensor, columns: Tensor, values: Tensor, dense: Tensor
    ) -> Tensor:
        ctx.transposed = transposed
        ctx.save_for_backward(rows, columns, dense)
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None, None, Tensor, Tensor]:
        rows, columns, dense = ctx.saved_tensors
        gradient = gradients[0].contiguous()
        blocks = zip(rows.split(_ENTRY_BLOCK), columns.split(_ENTRY_BLOCK), strict=True)
        of_values = torch.cat([(gradient[row] * dense[column]).sum(1) for row, column in blocks])
        return None, None, None, None, of_values, ctx.transposed @ gradient


def multiply(matrix: SparseMatrix, entries: Entries, dense: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows dim"]:
    """The product of `matrix` and a dense matrix, differentiable also in the values of `entries`, which are its own.

    Memory grows with the entries, never with rows × columns.
    """
    product: Tensor = _EntryProduct.apply(matrix.matrix, matrix.transposed, *entries, dense)  # type: ignore[no-untyped-call]
    return product
