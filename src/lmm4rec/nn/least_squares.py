"""Regularized least squares for many rows at once, each with few positive columns: a half of a sweep of iALS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.matrices import select_rows
from lmm4rec.nn.csr import csr
from lmm4rec.nn.linear_algebra import eigenvectors, solve_positive

_GROWTH = 1.25  # largest ratio of the numbers of positives in a block, whose rows are padded to the largest
_BLOCK = 2**20  # numbers in a block's vectors, padding included: 4 MiB


class Block(NamedTuple):
    """Rows with about as many positives, the columns of these, padded with the number of columns, and roots of weights.

    `is_positive` is False for the padding; `roots` is None where all weights are 1.
    """

    rows: Int[Tensor, " block"]
    columns: Int[Tensor, "block width"]
    is_positive: Bool[Tensor, "block width"]
    roots: Float[Tensor, "block width"] | None


class SparseRows(nn.Module):
    """The positive columns of each row and their weights, with rows in blocks by their number of positives."""

    matrix: Tensor
    order: Tensor

    def __init__(
        self,
        rows: Int[Tensor, " entries"],
        columns: Int[Tensor, " entries"],
        shape: tuple[int, int],
        weights: Float[Tensor, " entries"] | None = None,
    ) -> None:
        super().__init__()
        self.is_weighted = weights is not None
        values = torch.ones(len(rows)) if weights is None else weights
        self.register_buffer("matrix", csr(rows, columns, values, shape), persistent=False)
        self.register_buffer("order", torch.argsort(self.counts, stable=True), persistent=False)
        self._blocks: dict[tuple[int, torch.device], list[Block]] = {}

    @property
    def counts(self) -> Int[Tensor, " rows"]:
        """The number of positives of each row."""
        return self.matrix.crow_indices().diff()

    @property
    def totals(self) -> Float[Tensor, " rows"] | Int[Tensor, " rows"]:
        """The sum of the weights of each row's positives."""
        if not self.is_weighted:
            return self.counts
        rows = torch.repeat_interleave(torch.arange(len(self.counts), device=self.order.device), self.counts)
        return torch.zeros_like(self.counts, dtype=torch.float32).index_add_(0, rows, self.matrix.values())

    def blocks(self, dim: int) -> list[Block]:
        """The rows that have positives, in blocks for vectors of this width; computed once for a width and a device."""
        key = (dim, self.order.device)
        if key not in self._blocks:
            self._blocks[key] = [self._block(first, last) for first, last in self._ranges(dim)]
        return self._blocks[key]

    def _ranges(self, dim: int) -> Iterator[tuple[int, int]]:
        """The first and the last place, exclusive, of each block in the order of the rows."""
        counts = self.counts[self.order].tolist()
        first = sum(count == 0 for count in counts)
        while first < len(counts):
            last, widest = first, counts[first] * _GROWTH
            while (
                last < len(counts)
                and counts[last] <= widest
                and (last == first or counts[last] * (last + 1 - first) * dim <= _BLOCK)
            ):
                last += 1
            yield first, last
            first = last

    def _block(self, first: int, last: int) -> Block:
        rows = self.order[first:last]
        counts, starts = self.counts[rows], self.matrix.crow_indices()[rows]
        within = torch.arange(int(counts[-1]), device=rows.device)
        is_positive = within < counts[:, None]
        places = (starts[:, None] + within).where(is_positive, 0)
        columns = self.matrix.col_indices()[places].where(is_positive, self.matrix.shape[1])
        roots = self.matrix.values()[places].sqrt() if self.is_weighted else None
        return Block(rows, columns, is_positive, roots)


@torch.no_grad()
def solve_rows(
    positives: SparseRows,
    vectors: Float[Tensor, "columns dim"],
    solution: Float[Tensor, "rows dim"],
    unobserved_weight: float,
    l2_weights: Float[Tensor, " rows"],
) -> Float[Tensor, ""]:
    """The sum of the positives' weighted squared errors, after each row x of the solution was set to the minimum of

    sum over positives j of w_j (x · v_j - 1)² + α0 · sum over all columns j of (x · v_j)² + λ |x|²

    with α0 = `unobserved_weight` and λ the row's of `l2_weights`. In the axes Q of the Gram matrix α0 VᵀV = Q Λ Qᵀ the
    last two terms have the diagonal matrix D⁻¹ = Λ + λ. With Z, the vectors of the n positives in these axes:

    - n > dim:   x = Q (D⁻¹ + ZᵀZ)⁻¹ Zᵀ 1, a system of dim equations,
    - n ≤ dim:   x = Q D Zᵀ r, r = (I + Z D Zᵀ)⁻¹ 1, a system of n equations; r are the residuals 1 - V x.

    Here w is 1. Else each row of Z, and the 1 of its equation, is multiplied by the root of its w; r are then the
    residuals times these roots. Rows without positives get 0.
    """
    dim = vectors.shape[1]
    eigenvalues, axes = eigenvectors(unobserved_weight * (vectors.T @ vectors))
    rotated = F.pad(vectors @ axes, (0, 0, 0, 1))  # a row of zeros for the padding
    error = vectors.new_zeros(())
    solution.zero_()
    for block in positives.blocks(dim):
        z = select_rows(rotated, block.columns)
        diagonal = eigenvalues + l2_weights[block.rows, None]
        solved, residuals = _solve_block(z, diagonal, block.roots)
        error += (residuals * block.is_positive).square().sum()
        solution.index_copy_(0, block.rows, solved)
    solution.copy_(solution @ axes.T)
    return error


def _solve_block(
    z: Float[Tensor, "block width dim"],
    diagonal: Float[Tensor, "block dim"],
    roots: Float[Tensor, "block width"] | None = None,
) -> tuple[Float[Tensor, "block dim"], Float[Tensor, "block width"]]:
    """The solutions Qᵀ x of rows and their residuals r, by the smaller of the two systems; `diagonal` is D⁻¹."""
    targets = torch.ones_like(z[..., :1]) if roots is None else roots[..., None]
    z = z if roots is None else z * targets
    if z.shape[1] > z.shape[2]:
        system = z.mT @ z
        system.diagonal(dim1=1, dim2=2).add_(diagonal)
        solved = solve_positive(system, z.sum(1)[..., None] if roots is None else z.mT @ targets)
        residuals = targets - z @ solved
    else:
        scale = diagonal.rsqrt()
        z = z * scale[:, None]
        system = z @ z.mT
        system.diagonal(dim1=1, dim2=2).add_(1.0)
        residuals = solve_positive(system, targets)
        solved = scale[..., None] * (z.mT @ residuals)
    return solved[..., 0], residuals[..., 0]
