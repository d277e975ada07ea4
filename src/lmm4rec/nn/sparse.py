"""Sparse matrices that multiply dense ones, forward and backward, on any device."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.matrices import positions_in_runs, select_rows
from lmm4rec.distributed import batch_rows, process_group, sharding

_WORTH = 0.7  # share of entries up to which picking them out and multiplying them is faster than multiplying all
_ROW = 2  # entries whose products take as long as sending a row of the result to the other processes


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


def _rows_of(matrix: Tensor, rows: Int[Tensor, " chosen"]) -> Tensor:
    """The CSR matrix of some rows, in their order."""
    starts = matrix.crow_indices()
    counts = starts[rows + 1] - starts[rows]
    _, entries = positions_in_runs(starts[rows], counts)
    new_starts = F.pad(counts.cumsum(0), (1, 0))
    return csr_matrix(new_starts, matrix.col_indices()[entries], matrix.values()[entries], (len(rows), matrix.shape[1]))


def _columns_of(matrix: Tensor, columns: Int[Tensor, " chosen"]) -> Tensor:
    """The CSR matrix of some distinct columns, in their order."""
    new = torch.full((matrix.shape[1],), -1, device=columns.device)
    new[columns] = torch.arange(len(columns), device=columns.device)
    new_columns = new[matrix.col_indices()]
    is_kept = new_columns >= 0
    kept = is_kept.nonzero()[:, 0]
    starts = F.pad(is_kept.cumsum(0), (1, 0))[matrix.crow_indices()]
    return csr_matrix(starts, new_columns[kept], matrix.values()[kept], (matrix.shape[0], len(columns)))


def dense_rows(matrix: Tensor, rows: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen columns"]:
    """Some rows of a matrix, CSR or dense, as a dense matrix."""
    if matrix.layout == torch.strided:
        return matrix[rows]
    new, entries = entries_of(matrix, rows)
    dense = matrix.values().new_zeros(len(rows), matrix.shape[1])
    dense[new, matrix.col_indices()[entries].long()] = matrix.values()[entries]
    return dense


def product(matrix: Tensor, dense: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows dim"]:
    """The product of a CSR matrix with a dense one, without gradient.

    It is computed in the memory of the result: `matrix @ dense` takes three times as long, in copies.
    """
    result = dense.new_empty(matrix.shape[0], dense.shape[1])
    return torch.addmm(result, matrix, dense, beta=0, out=result)


class _RowRanges(NamedTuple):
    """The rows of a sparse matrix that this process holds, of those from `bounds[0]` = 0 to `bounds[-1]`."""

    own: Tensor  # CSR
    bounds: Sequence[int] | None  # of the ranges of all processes; None: all rows are here

    def product(self, dense: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows dim"]:
        """The product with a dense matrix that is the same in all processes, in all of them; without gradient."""
        if self.bounds is None:
            return product(self.own, dense)
        result = dense.new_empty(self.bounds[-1], dense.shape[1])
        own = result[self._range]
        torch.addmm(own, self.own, dense, beta=0, out=own)
        process_group.share_slices(result, self.bounds)
        return result

    def product_at(
        self, rows: Int[Tensor, " chosen"], dense: Float[Tensor, "columns dim"]
    ) -> Float[Tensor, "chosen dim"]:
        """Some distinct rows of `product`; where processes share the matrix, sorted ones."""
        if self.bounds is None:
            return product(_rows_of(self.own, rows), dense)
        places = torch.searchsorted(rows, torch.tensor(self.bounds, device=rows.device)).tolist()
        start, stop = places[process_group.rank() :][:2]
        result = dense.new_empty(len(rows), dense.shape[1])
        result[start:stop] = product(_rows_of(self.own, rows[start:stop] - self._range.start), dense)
        process_group.share_slices(result, places)
        return result

    def product_of_columns(
        self, columns: Int[Tensor, " chosen"], dense: Float[Tensor, "chosen dim"]
    ) -> Float[Tensor, "rows dim"]:
        """The product of some distinct columns with the dense matrix of their rows."""
        return self._replace(own=_columns_of(self.own, columns)).product(dense)

    @property
    def _range(self) -> slice:
        assert self.bounds is not None
        return slice(*self.bounds[process_group.rank() :][:2])


class _Product(torch.autograd.Function):
    """Sparse times dense with the gradient of the dense side; torch would convert the transpose in every step."""

    @staticmethod
    def forward(ctx: Any, matrix: _RowRanges, transposed: _RowRanges, dense: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix.product(dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed.product(gradients[0].contiguous())


class _ProductAt(torch.autograd.Function):
    """Some rows of a product."""

    @staticmethod
    def forward(ctx: Any, matrix: _RowRanges, transposed: _RowRanges, dense: Tensor, rows: Tensor) -> Tensor:
        ctx.transposed = transposed
        ctx.save_for_backward(rows)
        return matrix.product_at(rows, dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor, None]:
        (rows,) = ctx.saved_tensors
        return None, None, ctx.transposed.product_of_columns(rows, gradients[0].contiguous()), None


class _MeanOfStepsAt(torch.autograd.Function):
    """Some rows of the mean of steps of a square matrix: the last step, and its gradient, need only their entries."""

    @staticmethod
    def forward(
        ctx: Any, matrix: _RowRanges, transposed: _RowRanges, nodes: Tensor, steps: int, rows: Tensor
    ) -> Tensor:
        ctx.transposed, ctx.steps = transposed, steps
        ctx.save_for_backward(rows)
        total, current = nodes.index_select(0, rows), nodes
        for _ in range(steps - 1):
            current = matrix.product(current)
            total += current.index_select(0, rows)
        return total.add_(matrix.product_at(rows, current)).div_(steps + 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        at_rows = gradients[0] / (ctx.steps + 1)
        total = ctx.transposed.product_of_columns(rows, at_rows)
        for _ in range(ctx.steps - 1):
            total = ctx.transposed.product(total.index_add_(0, rows, at_rows))
        return None, None, total.index_add_(0, rows, at_rows), None, None


class SparseMatrix(nn.Module):
    """A constant sparse matrix, kept in CSR together with its transpose for the backward pass.

    Within `sharding.sharded_rows`, each process keeps a range of the rows of both, with about the same number of
    entries, computes those of a product, and gets the others from the other processes. The dense matrix, and the
    gradient of the product, have to be the same in all processes.
    """

    matrix: Tensor
    stored_transpose: Tensor | None

    def __init__(
        self,
        rows: Int[Tensor, " entries"],
        columns: Int[Tensor, " entries"],
        values: Float[Tensor, " entries"],
        shape: tuple[int, int],
        *,
        symmetric: bool = False,
    ) -> None:
        """A `symmetric` matrix is stored once: it is its own transpose."""
        super().__init__()
        self.shape = shape
        own, self._bounds = _own_rows(rows, columns, values, shape)
        self.register_buffer("matrix", own, persistent=False)
        transpose = (None, None) if symmetric else _own_rows(columns, rows, values, shape[::-1])
        self.register_buffer("stored_transpose", transpose[0], persistent=False)
        self._transposed_bounds = self._bounds if symmetric else transpose[1]

    @property
    def transposed(self) -> Tensor:
        """The transpose in CSR."""
        return self.matrix if self.stored_transpose is None else self.stored_transpose

    def forward(self, dense: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows dim"]:
        """The product with a dense matrix; differentiable in the dense matrix."""
        return cast(Tensor, _Product.apply(*self._sides(), dense))  # type: ignore[no-untyped-call]

    def at(self, rows: Int[Tensor, " chosen"], dense: Float[Tensor, "columns dim"]) -> Float[Tensor, "chosen dim"]:
        """Some distinct, sorted rows of the product with a dense matrix; the cost is that of their entries."""
        if not self._is_part(rows):
            return select_rows(self(dense), rows)
        return cast(Tensor, _ProductAt.apply(*self._sides(), dense, rows))  # type: ignore[no-untyped-call]

    def reverse(self, dense: Float[Tensor, "rows dim"]) -> Float[Tensor, "columns dim"]:
        """The product of the transpose with a dense matrix; differentiable in the dense matrix."""
        return cast(Tensor, _Product.apply(*reversed(self._sides()), dense))  # type: ignore[no-untyped-call]

    def mean_of_steps(self, nodes: Float[Tensor, "nodes dim"], steps: int) -> Float[Tensor, "nodes dim"]:
        """The mean of a dense matrix after 0, 1, ..., `steps` products with this square one."""
        total = current = nodes
        for _ in range(steps):
            current = self(current)
            total = total + current
        return total / (steps + 1)

    def mean_of_steps_at(
        self, nodes: Float[Tensor, "nodes dim"], steps: int, rows: Int[Tensor, " chosen"]
    ) -> Float[Tensor, "chosen dim"]:
        """Some distinct, sorted rows of `mean_of_steps`: a step less, but for these rows."""
        if steps == 0 or not self._is_part(rows):
            return select_rows(self.mean_of_steps(nodes, steps), rows)
        return cast(Tensor, _MeanOfStepsAt.apply(*self._sides(), nodes, steps, rows))  # type: ignore[no-untyped-call]

    def _is_part(self, rows: Int[Tensor, " chosen"]) -> bool:
        """Whether picking the rows' entries out, and multiplying them, is faster than multiplying all."""
        if self._bounds is not None:  # of a large matrix, and none of the processes knows how many entries
            return True
        starts = self.matrix.crow_indices()
        return int((starts[rows + 1] - starts[rows]).sum()) <= _WORTH * len(self.matrix.values())

    def _sides(self) -> tuple[_RowRanges, _RowRanges]:
        if self._bounds is not None:
            batch_rows.require_whole_batch("a graph")
        return _RowRanges(self.matrix, self._bounds), _RowRanges(self.transposed, self._transposed_bounds)


def _own_rows(
    rows: Int[Tensor, " entries"],
    columns: Int[Tensor, " entries"],
    values: Float[Tensor, " entries"],
    shape: tuple[int, int],
) -> tuple[Tensor, Sequence[int] | None]:
    """The CSR matrix of the rows that this process holds, and the bounds of all processes' rows."""
    if not sharding.is_sharded():
        return csr(rows, columns, values, shape), None
    bounds = sharding.balanced_bounds(torch.bincount(rows, minlength=shape[0]) + _ROW)
    start, stop = bounds[process_group.rank() :][:2]
    kept = (rows >= start) & (rows < stop)
    return csr(rows[kept] - start, columns[kept], values[kept], (stop - start, shape[1])), bounds
