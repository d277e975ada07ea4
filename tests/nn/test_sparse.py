"""Sparse products, and their gradients in values and vectors, against dense matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.weighted_matrix import SparsePattern, WeightedMatrix

ROWS, COLUMNS = torch.tensor([2, 0, 0, 3]), torch.tensor([1, 2, 0, 2])  # in no order; row 1 is empty
SHAPE = (4, 3)


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), requires_grad=True)


def dense(values: Tensor) -> Tensor:
    return torch.zeros(SHAPE).index_put((ROWS, COLUMNS), values)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_weighted_matrix_is_the_dense_one_with_gradient_in_its_values(reverse: bool) -> None:
    matrix = WeightedMatrix(SparsePattern(ROWS, COLUMNS, SHAPE), values := draw(4, seed=0))
    x = draw(SHAPE[0] if reverse else SHAPE[1], 5, seed=1)
    product = matrix.reverse(x) if reverse else matrix(x)
    expected = (dense(values).T if reverse else dense(values)) @ x
    torch.testing.assert_close(product, expected)
    target = draw(*product.shape, seed=2).detach()
    ours = torch.autograd.grad((product * target).sum(), (values, x))
    theirs = torch.autograd.grad((expected * target).sum(), (values, x))
    torch.testing.assert_close(ours, theirs)


def test_dots_are_those_of_the_pairs_in_the_order_given() -> None:
    left, right = draw(4, 5, seed=0), draw(3, 5, seed=1)
    dots = SparsePattern(ROWS, COLUMNS, SHAPE).dots(left, right)
    expected = (left[ROWS] * right[COLUMNS]).sum(1)
    torch.testing.assert_close(dots, expected)
    target = draw(4, seed=2).detach()
    ours = torch.autograd.grad((dots * target).sum(), (left, right))
    theirs = torch.autograd.grad((expected * target).sum(), (left, right))
    torch.testing.assert_close(ours, theirs)


def test_reverse_is_the_transpose() -> None:
    matrix = SparseMatrix(ROWS, COLUMNS, values := draw(4, seed=0).detach(), SHAPE)
    x = draw(4, 2, seed=1)
    torch.testing.assert_close(matrix.reverse(x), dense(values).T @ x)
    (gradient,) = torch.autograd.grad(matrix.reverse(x).sum(), x)
    torch.testing.assert_close(gradient, dense(values) @ torch.ones(3, 2))
