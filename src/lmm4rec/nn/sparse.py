"""Sparse matrices that multiply dense ones, forward and backward, on any device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.core.matrices import select_rows
from lmm4rec.distributed import batch_rows, process_group, sharding
from lmm4rec.nn.csr import columns_of, csr, rows_of
from lmm4rec.nn.sparse_product import product, product_into

_WORTH = 0.7  # share of entries up to which picking them out and multiplying them is faster than multiplying all
_ROW = 2  # entries whose products take as long as sending a row of the result to the other processes


class _OwnRows(nn.Module):
    """The rows of a sparse matrix that this process holds: all, or where processes share it, some of each half."""

    def __init__(
        self,
        rows: Int[Tensor, " entries"],
        columns: Int[Tensor, " entries"],
        values: Float[Tensor, " entries"],
        shape: tuple[int, int],
    ) -> None:
        super().__init__()
        self.bounds = _shared_bounds(rows, shape[0])
        """Of the ranges of all processes, for each half; none where they share nothing."""
        for number, own in enumerate(map(_range_of, self.bounds)):
            kept = (rows >= own.start) & (rows < own.stop)
            part = csr(rows[kept] - own.start, columns[kept], values[kept], (own.stop - own.start, shape[1]))
            self.register_buffer(f"part_{number}", part, persistent=False)
        if not self.bounds:
            self.register_buffer("part_0", csr(rows, columns, values, shape), persistent=False)

    @property
    def parts(self) -> list[Tensor]:
        """The CSR matrices of the rows in each half, or of all rows."""
        return list(self.buffers())

    def product(
        self, dense: Float[Tensor, "columns dim"], plus: _Plus | None = None, *, in_common: bool = False
    ) -> Float[Tensor, "rows dim"]:
        """The product with a dense matrix that is the same in all processes, in all of them; without gradient.

        With `plus`, the sum with the rows that it has. A result that processes have `in_common` must not be changed.
        """
        return self._product_of(self.parts, dense, plus, in_common)

    def product_of_columns(
        self,
        columns: Int[Tensor, " chosen"],
        dense: Float[Tensor, "chosen dim"],
        plus: _Plus | None = None,
        *,
        in_common: bool = False,
    ) -> Float[Tensor, "rows dim"]:
        """The product of some distinct columns with the dense matrix of their rows; else as `product`."""
        return self._product_of([columns_of(part, columns) for part in self.parts], dense, plus, in_common)

    def product_at(
        self, rows: Int[Tensor, " chosen"], dense: Float[Tensor, "columns dim"]
    ) -> Float[Tensor, "chosen dim"]:
        """Some distinct rows of `product`; where processes share the matrix, sorted ones."""
        if not self.bounds:
            return product(rows_of(self.parts[0], rows), dense)
        places = [torch.searchsorted(rows, torch.tensor(bounds, device=rows.device)).tolist() for bounds in self.bounds]
        result = dense.new_empty(len(rows), dense.shape[1])
        for part, bounds, chosen in zip(self.parts, self.bounds, map(_range_of, places), strict=True):
            result[chosen] = product(rows_of(part, rows[chosen] - _range_of(bounds).start), dense)
        return _shared(result, places)

    def _product_of(
        self, parts: Sequence[Tensor], dense: Float[Tensor, "columns dim"], plus: _Plus | None, in_common: bool
    ) -> Float[Tensor, "rows dim"]:
        if not self.bounds:
            result = product(parts[0], dense)
            return result if plus is None else result.index_add_(0, plus.rows, plus.values)
        shape = self.bounds[-1][-1], dense.shape[1]
        common = process_group.empty_in_common(shape, dense) if in_common else None
        result = dense.new_empty(shape) if common is None else common
        for part, own in zip(parts, map(_range_of, self.bounds), strict=True):
            product_into(result[own], part, dense)
            if plus is not None:
                plus.add_to(result[own], own)
        if common is None:
            return _shared(result, self.bounds)
        process_group.barrier()
        return common


@dataclass
class _Plus:
    """Some rows of a matrix whose other rows are zero; the rows are ascending and distinct."""

    rows: Int[Tensor, " chosen"]
    values: Float[Tensor, "chosen dim"]

    def add_to(self, part: Float[Tensor, "part dim"], own: slice) -> None:
        """Add the rows that are in a range to that part of a matrix."""
        ends = torch.tensor([own.start, own.stop], device=self.rows.device)
        first, last = torch.searchsorted(self.rows, ends).tolist()
        part.index_add_(0, self.rows[first:last] - own.start, self.values[first:last])


def _range_of(bounds: Sequence[int]) -> slice:
    """The range of this process."""
    return slice(*bounds[process_group.rank() :][:2])


def _shared(result: Float[Tensor, "rows dim"], bounds: Iterable[Sequence[int]]) -> Float[Tensor, "rows dim"]:
    """The result with the rows of the other processes."""
    for one in bounds:
        process_group.share_slices(result, one)
    return result


def _shared_bounds(rows: Int[Tensor, " entries"], count: int) -> tuple[Sequence[int], ...]:
    """Bounds of the ranges of all processes in each half of a matrix of `count` rows; none where they share nothing.

    The halves have about the same number of entries. In a graph of users and items they are these, whose products take
    unequal time: each process computes some of both.
    """
    if not sharding.is_sharded():
        return ()
    costs = torch.bincount(rows, minlength=count) + _ROW
    middle = sharding.balanced_bounds(costs, 2)[1]
    return tuple(
        [start + bound for bound in sharding.balanced_bounds(costs[start:stop], process_group.world_size())]
        for start, stop in ((0, middle), (middle, count))
    )


class _Product(torch.autograd.Function):
    """Sparse times dense with the gradient of the dense side; torch would convert the transpose in every step."""

    @staticmethod
    def forward(ctx: Any, matrix: _OwnRows, transposed: _OwnRows, dense: Tensor) -> Tensor:
        ctx.transposed = transposed
        return matrix.product(dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor]:
        return None, None, ctx.transposed.product(gradients[0].contiguous())


class _ProductAt(torch.autograd.Function):
    """Some rows of a product."""

    @staticmethod
    def forward(ctx: Any, matrix: _OwnRows, transposed: _OwnRows, dense: Tensor, rows: Tensor) -> Tensor:
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
    def forward(ctx: Any, matrix: _OwnRows, transposed: _OwnRows, nodes: Tensor, steps: int, rows: Tensor) -> Tensor:
        ctx.transposed, ctx.steps = transposed, steps
        ctx.save_for_backward(rows)
        total, current = nodes.index_select(0, rows), nodes
        for _ in range(steps - 1):
            current = matrix.product(current, in_common=True)
            total += current.index_select(0, rows)
        return total.add_(matrix.product_at(rows, current)).div_(steps + 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        matrix, at_rows = ctx.transposed, gradients[0] / (ctx.steps + 1)
        plus = _Plus(rows, at_rows)
        total = matrix.product_of_columns(rows, at_rows, plus, in_common=ctx.steps > 1)
        for step in range(2, ctx.steps + 1):  # the last result is private: autograd may add to it
            total = matrix.product(total, plus, in_common=step < ctx.steps)
        return None, None, total, None, None


class SparseMatrix(nn.Module):
    """A constant sparse matrix, kept in CSR together with its transpose for the backward pass.

    Within `sharding.sharded_rows`, each process keeps some rows of both, computes those of a product, and gets the
    others from the other processes. The dense matrix, and the gradient of the product, have to be the same in all
    processes.
    """

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
        self._own = _OwnRows(rows, columns, values, shape)
        self._transposed = self._own if symmetric else _OwnRows(columns, rows, values, shape[::-1])

    @property
    def matrix(self) -> Tensor:
        """The matrix in CSR; its first rows where processes share it."""
        return self._own.parts[0]

    @property
    def transposed(self) -> Tensor:
        """The transpose in CSR; its first rows where processes share it."""
        return self._transposed.parts[0]

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
        if self._own.bounds:  # of a large matrix, and none of the processes knows how many entries
            return True
        starts = self.matrix.crow_indices()
        return int((starts[rows + 1] - starts[rows]).sum()) <= _WORTH * len(self.matrix.values())

    def _sides(self) -> tuple[_OwnRows, _OwnRows]:
        if self._own.bounds:
            batch_rows.require_whole_batch("a graph")
        return self._own, self._transposed
