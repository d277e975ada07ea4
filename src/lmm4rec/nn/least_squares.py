"""Regularized least squares for many rows at once, each with few positive columns: a half of a sweep of iALS."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.matrices import select_rows
from lmm4rec.nn.linear_algebra import eigenvectors, solve_positive
from lmm4rec.nn.sparse import csr

_GROWTH = 1.25  # largest ratio of the numbers of positives in a block, whose rows are padded to the largest
_BLOCK = 2**20  # numbers in a block's vectors, padding included: 4 MiB


class SparseRows(nn.Module):
    """The positive columns of each row, with rows in blocks by their number of positives."""

    matrix: Tensor
    order: Tensor

    def __init__(self, rows: Int[Tensor, " entries"], columns: Int[Tensor, " entries"], shape: tuple[int, int]) -> None:
        super().__init__()
        self.register_buffer("matrix", csr(rows, columns, torch.ones(len(rows)), shape), persistent=False)
        self.register_buffer("order", torch.argsort(self.counts, stable=True), persistent=False)

    @property
    def counts(self) -> Int[Tensor, " rows"]:
        """The number of positives of each row."""
        return self.matrix.crow_indices().diff()

    def blocks(self, dim: int) -> Iterator[tuple[Int[Tensor, " block"], Int[Tensor, "block width"]]]:
        """Rows that have positives, and the columns of these, padded with the number of columns."""
        counts, starts = self.counts[self.order].tolist(), self.matrix.crow_indices()[:-1]
        columns, padding = self.matrix.col_indices(), self.matrix.shape[1]
        first = sum(count == 0 for count in counts)
        while first < len(counts):
            last, widest = first, counts[first] * _GROWTH
            while (
                last < len(counts)
                and counts[last] <= widest
                and (last == first or counts[last] * (last + 1 - first) * dim <= _BLOCK)
            ):
                last += 1
            rows = self.order[first:last]
            within = torch.arange(counts[last - 1], device=rows.device)
            places = starts[rows][:, None] + within
            is_padding = within >= self.counts[rows][:, None]
            yield rows, columns[places.masked_fill(is_padding, 0)].masked_fill(is_padding, padding)
            first = last


@torch.no_grad()
def solve_rows(
    positives: SparseRows,
    vectors: Float[Tensor, "columns dim"],
    solution: Float[Tensor, "rows dim"],
    unobserved_weight: float,
    l2_weights: Float[Tensor, " rows"],
) -> Float[Tensor, ""]:
    """The sum of the positives' squared errors, after each row x of the solution was set to the minimum of

    sum over positives j of (x · v_j - 1)² + α0 · sum over all columns j of (x · v_j)² + λ |x|²

    with α0 = `unobserved_weight` and λ the row's of `l2_weights`. In the axes Q of the Gram matrix α0 VᵀV = Q Λ Qᵀ the
    last two terms have the diagonal matrix D⁻¹ = Λ + λ. With Z, the vectors of the n positives in these axes:

    - n > dim:   x = Q (D⁻¹ + ZᵀZ)⁻¹ Zᵀ 1, a system of dim equations,
    - n ≤ dim:   x = Q D Zᵀ r, r = (I + Z D Zᵀ)⁻¹ 1, a system of n equations; r are the residuals 1 - V x.

    Rows without positives get 0.
    """
    dim = vectors.shape[1]
    eigenvalues, axes = eigenvectors(unobserved_weight * (vectors.T @ vectors))
    rotated = F.pad(vectors @ axes, (0, 0, 0, 1))  # a row of zeros for the padding
    error = vectors.new_zeros(())
    solution.zero_()
    for rows, columns in positives.blocks(dim):
        z = select_rows(rotated, columns)
        diagonal = eigenvalues + l2_weights[rows, None]
        solved, residuals = _solve_block(z, diagonal)
        error += (residuals * (columns < len(vectors))).square().sum()
        solution.index_copy_(0, rows, solved)
    solution.copy_(solution @ axes.T)
    return error


def _solve_block(
    z: Float[Tensor, "block width dim"], diagonal: Float[Tensor, "block dim"]
) -> tuple[Float[Tensor, "block dim"], Float[Tensor, "block width"]]:
    """The solutions Qᵀ x of rows and their residuals r, by the smaller of the two systems; `diagonal` is D⁻¹."""
    if z.shape[1] > z.shape[2]:
        system = z.mT @ z
        system.diagonal(dim1=1, dim2=2).add_(diagonal)
        solved = solve_positive(system, z.sum(1)[..., None])
        residuals = 1 - z @ solved
    else:
        scale = diagonal.rsqrt()
        z = z * scale[:, None]
        system = z @ z.mT
        system.diagonal(dim1=1, dim2=2).add_(1.0)
        residuals = solve_positive(system, torch.ones_like(z[..., :1]))
        solved = scale[..., None] * (z.mT @ residuals)
    return solved[..., 0], residuals[..., 0]
