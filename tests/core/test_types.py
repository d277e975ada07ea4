from __future__ import annotations

import numpy as np
import pytest
import torch

from lmm4rec.core.types import Embeddings, Neighbors, Scorer


def test_embeddings_score_by_the_dot_product() -> None:
    users, items = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[3.0, 1.0], [0.0, 4.0], [1.0, 1.0]])
    scorer = Embeddings(users, items)
    assert isinstance(scorer, Scorer)
    assert (scorer.n_users, scorer.n_items) == (2, 3)
    assert scorer.scores(torch.tensor([1, 0])).tolist() == [[-1, -4, -1], [5, 8, 3]]


@pytest.mark.parametrize("chosen", [list(range(25)), [3], [24, 0, 0, 7], []])
def test_neighbors_score_as_the_dense_matrices(chosen: list[int]) -> None:
    """Users without any history, items without any neighbor, and a user asked for twice included."""
    rng = np.random.default_rng(0)
    seen = (rng.random((25, 13)) < 0.15).astype(np.float32)
    similarity = rng.random((13, 13)).astype(np.float32) * (rng.random((13, 13)) < 0.4)  # not symmetric
    similarity[5] = 0
    assert (seen.sum(1) == 0).any()
    scorer = Neighbors(torch.from_numpy(seen).to_sparse_csr(), torch.from_numpy(similarity).to_sparse_csr())
    assert isinstance(scorer, Scorer)
    assert (scorer.n_users, scorer.n_items) == (25, 13)
    users = torch.tensor(chosen, dtype=torch.int64)
    expected = np.array([[similarity[item] @ seen[user] for item in range(13)] for user in chosen]).reshape(-1, 13)
    np.testing.assert_allclose(scorer.scores(users).numpy(), expected, rtol=1e-5, atol=1e-6)
