"""The inverse of a sparse Gram matrix equals NumPy's, whether rows are eliminated first or not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmm4rec.nn import sparse_inverse
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.sparse_inverse import inverse_of_gram


def graph(users: int, items: int, interactions: int) -> tuple[InteractionGraph, np.ndarray]:
    """Interactions of which some items have none, and the Gram matrix of X."""
    x = np.zeros((users, items))
    rng = np.random.default_rng(0)
    x[rng.integers(users, size=interactions), (items * rng.random(interactions) ** 2).astype(int)] = 1
    rows, columns = (torch.from_numpy(entries) for entries in np.nonzero(x))
    return InteractionGraph(rows, columns, users, items), x.T @ x


@pytest.mark.parametrize("interactions", [0, 150, 400, 3_000])
@pytest.mark.parametrize("memory_gb", [8.0, 1e-6])  # the second: in place
def test_it_equals_numpy(interactions: int, memory_gb: float) -> None:
    log, gram = graph(150, 120, interactions)
    for l2_weight in (0.5, 100.0):
        expected = np.linalg.inv(gram + l2_weight * np.eye(120))
        inverse = inverse_of_gram(log, l2_weight, memory_gb)
        np.testing.assert_allclose(inverse.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_most_rows_of_a_sparse_matrix_are_eliminated(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = []
    monkeypatch.setattr(sparse_inverse, "invert_", lambda x, l2_weight: dense.append(len(x)) or torch.linalg.inv(x))
    log, gram = graph(300, 200, 400)
    np.testing.assert_allclose(inverse_of_gram(log, 1.0, 8.0).numpy(), np.linalg.inv(gram + np.eye(200)), atol=1e-12)
    assert dense[0] < 100


def test_three_items_by_hand() -> None:
    """Item 1 shares a user with each of the others: the Gram matrix is [[1, 1, 0], [1, 2, 1], [0, 1, 1]]."""
    log = InteractionGraph(torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 2]), 2, 3)
    expected = torch.tensor([[5.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 5.0]]) / 8
    torch.testing.assert_close(inverse_of_gram(log, 1.0, 8.0), expected.double())
