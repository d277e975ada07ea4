"""Sparse matrices whose values change and carry gradient, on a pattern of entries that stays."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.nn.csr import compress, csr_matrix
from lmm4rec.nn.sparse_product import product


class SparsePattern(nn.Module):
    """The entries' places in a sparse matrix whose values change; products are differentiable in the values too.

    With values it becomes a `WeightedMatrix`; entries keep the order of `rows` and `columns`.
    """

    starts: Tensor
    columns: Tensor
    order: Tensor
    reverse_starts: Tensor
    reverse_columns: Tensor
    reverse_order: Tensor
    place: Tensor

    def __init__(self, rows: Int[Tensor, " entries"], columns: Int[Tensor, " entries"], shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape = shape
        parts = (*compress(rows, columns, shape), *compress(columns, rows, (shape[1], shape[0])))
        names = ("starts", "columns", "order", "reverse_starts", "reverse_columns", "reverse_order")
        for name, part in zip(names, parts, strict=True):
            self.register_buffer(name, part, persistent=False)
        self.register_buffer("place", torch.argsort(self.order), persistent=False)
        # as the edges of a graph are: nothing is reordered then
        self.is_sorted = torch.equal(self.order, torch.arange(len(self.order), device=self.order.device))

    def matrix(self, values: Float[Tensor, " entries"], *, transposed: bool = False) -> Tensor:
        """The CSR matrix (or its transpose) with the given values."""
        if transposed:
            return csr_matrix(self.reverse_starts, self.reverse_columns, values[self.reverse_order], self.shape[::-1])
        ordered = values if self.is_sorted else values[self.order]
        return csr_matrix(self.starts, self.columns, ordered, self.shape)

    def dots(self, left: Float[Tensor, "rows dim"], right: Float[Tensor, "columns dim"]) -> Float[Tensor, " entries"]:
        """The dot product of the row's and the column's vector at each entry."""
        return cast(Tensor, _Dots.apply(self, left, right))  # type: ignore[no-untyped-call]

    def sampled(self, left: Tensor, right: Tensor) -> Tensor:
        """`dots` without gradient; no entry's pair of vectors is copied."""
        empty = csr_matrix(self.starts, self.columns, left.new_zeros(len(self.columns)), self.shape)
        products = torch.sparse.sampled_addmm(empty, left.contiguous(), right.contiguous().T, beta=0.0).values()
        return products if self.is_sorted else products[self.place]


class WeightedMatrix:
    """A pattern with values: a `SparseMatrix` whose values have a gradient."""

    def __init__(self, pattern: SparsePattern, values: Float[Tensor, " entries"]) -> None:
        self.pattern, self.values = pattern, values

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.pattern.shape

    def __call__(self, dense: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows dim"]:
        """The product with a dense matrix."""
        return cast(Tensor, _Weighted.apply(self.pattern, False, self.values, dense))  # type: ignore[no-untyped-call]

    def reverse(self, dense: Float[Tensor, "rows dim"]) -> Float[Tensor, "columns dim"]:
        """The product of the transpose with a dense matrix."""
        return cast(Tensor, _Weighted.apply(self.pattern, True, self.values, dense))  # type: ignore[no-untyped-call]


class _Weighted(torch.autograd.Function):
    """A pattern's matrix times a dense one; the gradient of a value is a dot product at its entry."""

    @staticmethod
    def forward(ctx: Any, pattern: SparsePattern, transposed: bool, values: Tensor, dense: Tensor) -> Tensor:
        ctx.pattern, ctx.transposed = pattern, transposed
        ctx.save_for_backward(values, dense)
        return product(pattern.matrix(values, transposed=transposed), dense)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, Tensor | None, Tensor | None]:
        values, dense = ctx.saved_tensors
        gradient, pattern = gradients[0].contiguous(), ctx.pattern
        pair = (dense, gradient) if ctx.transposed else (gradient, dense)
        by_values = pattern.sampled(*pair) if ctx.needs_input_grad[2] else None
        if not ctx.needs_input_grad[3]:
            return None, None, by_values, None
        return None, None, by_values, product(pattern.matrix(values, transposed=not ctx.transposed), gradient)


class _Dots(torch.autograd.Function):
    """Dot products at a pattern's entries; the gradients are products with the pattern's matrix of gradients."""

    @staticmethod
    def forward(ctx: Any, pattern: SparsePattern, left: Tensor, right: Tensor) -> Tensor:
        ctx.pattern = pattern
        ctx.save_for_backward(left, right)
        return pattern.sampled(left, right)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, Tensor]:
        left, right = ctx.saved_tensors
        by_left = product(ctx.pattern.matrix(gradients[0]), right)
        return None, by_left, product(ctx.pattern.matrix(gradients[0], transposed=True), left)
