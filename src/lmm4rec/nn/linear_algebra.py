"""Decompositions of symmetric matrices without negative eigenvalues, of any rank."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def eigenvectors(matrix: Float[Tensor, "n n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """The eigenvalues of a symmetric matrix, ascending and at least 0, and its eigenvectors as columns.

    They are computed in float64: in float32 LAPACK's divide and conquer does not converge on some matrices of low rank.
    """
    values, vectors = torch.linalg.eigh(matrix.double())
    return values.clamp(min=0).to(matrix.dtype), vectors.to(matrix.dtype)


def principal_axes(x: Float[Tensor, "rows widths"], most: int) -> Float[Tensor, "widths axes"]:
    """The eigenvectors of xᵀx with the largest eigenvalues as columns, at most `most`; the largest comes last."""
    wide = x.double()
    return eigenvectors(wide.T @ wide)[1][:, -most:].to(x.dtype).contiguous()


def solve_positive(
    system: Float[Tensor, "*batch n n"], right: Float[Tensor, "*batch n columns"]
) -> Float[Tensor, "*batch n columns"]:
    """The solutions of symmetric systems without negative eigenvalues, by Cholesky decompositions.

    Where one is singular after rounding, all are solved in float64 with a ridge of the size of the rounding errors.
    """
    factor, failed = torch.linalg.cholesky_ex(system)
    if failed.any():
        wide = system.double()
        trace = wide.diagonal(dim1=-2, dim2=-1).sum(-1)
        ridge = (10 * torch.finfo(system.dtype).eps * trace).clamp(min=torch.finfo(torch.float32).tiny)
        wide.diagonal(dim1=-2, dim2=-1).add_(ridge[..., None])
        return torch.cholesky_solve(right.double(), torch.linalg.cholesky(wide)).to(right.dtype)
    return torch.cholesky_solve(right, factor)


def ridge(
    x: Float[Tensor, "n widths"], y: Float[Tensor, "n columns"], alpha: float
) -> tuple[Float[Tensor, "widths columns"], Float[Tensor, " columns"]]:
    """The weights W that minimize |x W + b - y|² + alpha |W|², and b, the mean of y, for centered x."""
    mean = y.mean(0)
    if len(x) <= x.shape[1]:  # the same weights, from the smaller of two systems
        return x.T @ solve_positive(x @ x.T + alpha * torch.eye(len(x)), y - mean), mean
    return solve_positive(x.T @ x + alpha * torch.eye(x.shape[1]), x.T @ (y - mean)), mean
