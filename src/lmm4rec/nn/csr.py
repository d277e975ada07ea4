"""Sparse matrices by compressed rows (CSR): making them, and reading rows and columns."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.matrices import positions_in_runs


def csr(
    rows: Int[Tensor, " entries"],
    columns: Int[Tensor, " entries"],
    values: Float[Tensor, " entries"],
    shape: tuple[int, int],
) -> Tensor:
    """The CSR matrix of the given entries, rows and columns sorted; no (row, column) pair may occur twice."""
    starts, columns, order = compress(rows, columns, shape)
    return csr_matrix(starts, columns, values[order], shape)


def compress(
    rows: Int[Tensor, " entries"], columns: Int[Tensor, " entries"], shape: tuple[int, int]
) -> tuple[Int[Tensor, " starts"], Int[Tensor, " entries"], Int[Tensor, " entries"]]:
    """The start of each row, the columns row by row, and the entry of each of them."""
    order = torch.argsort(rows * shape[1] + columns)
    starts = torch.zeros(shape[0] + 1, dtype=torch.int64, device=rows.device)
    torch.cumsum(torch.bincount(rows, minlength=shape[0]), 0, out=starts[1:])
    return starts, columns[order], order


@contextmanager
def beta_accepted() -> Iterator[None]:
    """A context without torch's warnings, at the first CSR matrix of a process: they are in beta, and unchecked."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")  # torch 2.11
        yield


def csr_matrix(
    starts: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int], *, check: bool = False
) -> Tensor:
    """The CSR matrix of compressed rows; with `check`, these are compared with the shape.

    Raises:
        RuntimeError: they do not belong to it.
    """
    with beta_accepted():
        return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=check)


def entries_of(matrix: Tensor, rows: Int[Tensor, " chosen"]) -> tuple[Int[Tensor, " entries"], Int[Tensor, " entries"]]:
    """The entries of some rows of a CSR matrix: the place of each one's row among `rows`, and its own place."""
    starts = matrix.crow_indices()
    return positions_in_runs(starts[rows], starts[rows + 1] - starts[rows])


def rows_of(matrix: Tensor, rows: Int[Tensor, " chosen"]) -> Tensor:
    """The CSR matrix of some rows, in their order."""
    starts = matrix.crow_indices()
    counts = starts[rows + 1] - starts[rows]
    _, entries = positions_in_runs(starts[rows], counts)
    kept, values = (part.index_select(0, entries) for part in (matrix.col_indices(), matrix.values()))
    return csr_matrix(F.pad(counts.cumsum(0), (1, 0)), kept, values, (len(rows), matrix.shape[1]))


def columns_of(matrix: Tensor, columns: Int[Tensor, " chosen"]) -> Tensor:
    """The CSR matrix of some distinct columns, in their order."""
    is_chosen = torch.zeros(matrix.shape[1], dtype=torch.bool, device=columns.device)
    is_chosen[columns] = True
    entries = is_chosen.index_select(0, matrix.col_indices()).nonzero()[:, 0]
    place = columns.new_empty(matrix.shape[1])
    place[columns] = torch.arange(len(columns), device=columns.device)
    starts = torch.searchsorted(entries, matrix.crow_indices())
    kept = place.index_select(0, matrix.col_indices().index_select(0, entries))
    return csr_matrix(starts, kept, matrix.values().index_select(0, entries), (matrix.shape[0], len(columns)))


def dense_rows(matrix: Tensor, rows: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen columns"]:
    """Some rows of a matrix, CSR or dense, as a dense matrix."""
    if matrix.layout == torch.strided:
        return matrix[rows]
    new, entries = entries_of(matrix, rows)
    dense = matrix.values().new_zeros(len(rows), matrix.shape[1])
    dense[new, matrix.col_indices()[entries].long()] = matrix.values()[entries]
    return dense
