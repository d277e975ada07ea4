"""Sparse matrices that multiply dense ones, forward and backward, on any device."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def csr(
    rows: Int[Tensor, " entries"],
    columns: Int[Tensor, " entries"],
    values: Float[Tensor, " entries"],
    shape: tuple[int, int],
) -> Tensor:
    """The CSR matrix of the given entries, rows and columns sorted; no (row, column) pair may occur twice."""
    order = torch.argsort(rows * shape[1] + columns)
    counts = torch.bincount(rows, minlength=shape[0])
    crow = torch.zeros(shape[0] + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(counts, 0, out=crow[1:])
    with warnings.catch_warnings():  # torch announces once a process that CSR is in beta
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(crow, columns[order], values[order], shape, check_invariants=False)


class _Product(torch.autograd.Function):
    """Sparse times dense with the gradient of the dense side; torch would convert the transpose at every step."""

    @staticmethod
    def forward(ctx: Any, matrix: Tensor, transposed: Tensor, dense: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix @ dense

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed @ gradients[0].contiguous()


class SparseMatrix(nn.Module):
    """A constant sparse matrix, kept in CSR together with its transpose for the backward pass."""

    matrix: Tensor
    mirror: Tensor | None

    def __init__(
        self,
        rows: Int[Tensor, " entries"],
        columns: Int[Tensor, " entries"],
        values: Float[Tensor, " entries"],
        shape: tuple[int, int],
        *,
        symmetric: bool = False,
    ) -> None:
        """A `symmetric` matrix is kept once: it is its own transpose."""
        super().__init__()
        self.register_buffer("matrix", csr(rows, columns, values, shape), persistent=False)
        mirror = None if symmetric else csr(columns, rows, values, (shape[1], shape[0]))
        self.register_buffer("mirror", mirror, persistent=False)

    @property
    def transposed(self) -> Tensor:
        """The transpose in CSR."""
        return self.matrix if self.mirror is None else self.mirror

    def only(self, rows: Int[Tensor, " chosen"]) -> SparseMatrix:
        """The matrix of the given rows alone, each given once; the work is that of their entries."""
        starts, columns = self.matrix.crow_indices(), self.matrix.col_indices()
        counts = starts[rows + 1] - starts[rows]
        new = torch.repeat_interleave(counts)
        places = torch.arange(len(new), device=rows.device) + (starts[rows] - counts.cumsum(0) + counts)[new]
        return SparseMatrix(new, columns[places], self.matrix.values()[places], (len(rows), self.matrix.shape[1]))

    def forward(self, dense: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows dim"]:
        """The product with a dense matrix; differentiable in the dense matrix."""
        product: Tensor = _Product.apply(self.matrix, self.transposed, dense)  # type: ignore[no-untyped-call]
        return product
