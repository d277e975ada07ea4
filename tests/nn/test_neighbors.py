"""Item graphs against brute force and dense matrices."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lmm4rec.nn.item_graph import Entries, add, multiply, neighborhood, normalize_entries, similarities
from lmm4rec.nn.sparse import SparseMatrix


def vectors(items: int = 40, dim: int = 6) -> Tensor:
    return torch.randn(items, dim, generator=torch.Generator().manual_seed(0))


def dense(entries: Entries, items: int) -> np.ndarray:
    matrix = np.zeros((items, items))
    matrix[entries.rows.numpy(), entries.columns.numpy()] = entries.values.detach().numpy()
    return matrix


def brute_force(x: np.ndarray, k: int) -> np.ndarray:
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    cosine = unit @ unit.T
    kth = np.sort(cosine, axis=1)[:, -k]
    return np.where(cosine >= kth[:, None], cosine, 0)


def test_neighborhood_is_brute_force_whatever_the_block() -> None:
    x = vectors()
    for block in (1, 7, 64, None):
        np.testing.assert_allclose(dense(neighborhood(x, 5, block=block), 40), brute_force(x.numpy(), 5), atol=1e-6)


def test_an_item_without_vector_has_no_edges() -> None:
    x = vectors()
    x[[3, 8]] = 0
    found = dense(neighborhood(x, 5), 40)
    assert not found[[3, 8]].any()
    assert not found[:, [3, 8]].any()
    assert np.allclose(np.diag(found)[[0, 1, 2]], 1)


def test_one_neighbor_is_the_item_itself() -> None:
    np.testing.assert_allclose(dense(neighborhood(vectors(), 1), 40), np.eye(40))


def test_normalized_entries_are_the_dense_matrix() -> None:
    matrix = brute_force(vectors().numpy(), 4)
    scale = 1 / np.sqrt(matrix.sum(1))
    found = dense(normalize_entries(neighborhood(vectors(), 4), 40), 40)
    np.testing.assert_allclose(found, scale[:, None] * matrix * scale[None, :], atol=1e-6)


def test_rows_that_sum_to_nothing_become_zero() -> None:
    entries = Entries(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), torch.tensor([1.0, -2.0, 1.0]))
    assert normalize_entries(entries, 2).values.tolist() == [0.0, 0.0, 1.0]


def test_add_is_the_sum_of_dense_matrices() -> None:
    one, other = neighborhood(vectors(), 4), neighborhood(vectors().flip(0), 3)
    found = add([one, other], (40, 40))
    np.testing.assert_allclose(dense(found, 40), dense(one, 40) + dense(other, 40), atol=1e-6)
    assert len(torch.unique(found.rows * 40 + found.columns)) == len(found.rows)


def test_gradient_through_the_learned_graph_is_that_of_dense_matrices() -> None:
    """d(loss)/d(vectors) where the loss looks at the product of the normalized kNN graph and another matrix."""
    x, other, target = vectors().requires_grad_(), vectors(dim=3).requires_grad_(), vectors(dim=3)
    entries = normalize_entries(similarities(x, neighborhood(x, 4)), 40)
    matrix = SparseMatrix(entries.rows, entries.columns, entries.values.detach(), (40, 40))
    (multiply(matrix, entries, other) * target).sum().backward()

    y, same = vectors().requires_grad_(), vectors(dim=3).requires_grad_()
    unit = y / y.norm(dim=1, keepdim=True)
    kept = torch.from_numpy(brute_force(vectors().numpy(), 4) != 0)
    cosine = torch.where(kept, unit @ unit.T, 0.0)
    scale = cosine.sum(1).rsqrt()
    normalized = scale[:, None] * cosine * scale[None, :]
    (normalized @ same * target).sum().backward()
    for found, expected in ((x, y), (other, same)):
        assert found.grad is not None
        assert expected.grad is not None
        torch.testing.assert_close(found.grad, expected.grad, atol=1e-5, rtol=1e-4)
