from __future__ import annotations

import numpy as np
import pytest
import torch

from lmm4rec.core import types
from lmm4rec.core.types import Embeddings, Inputs, Neighbors, Scorer


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


def test_inputs_are_moved_and_selected_part_by_part() -> None:
    inputs = Inputs(torch.arange(8.0).view(4, 2, 1, 1), has_image=torch.tensor([True, False, True, True]))
    assert inputs.rows(torch.tensor([2, 0])).pixels[:, 0, 0, 0].tolist() == [4, 0]
    assert inputs.rows(inputs.has_image).pixels[:, 0, 0, 0].tolist() == [0, 4, 6]
    part = inputs.slice(1, 3)
    assert (part.has_image.tolist(), part.text_ids, part.text_mask) == ([False, True], None, None)
    assert part.pixels.data_ptr() == inputs.pixels[1:].data_ptr()
    moved = inputs.to("meta")
    assert moved.pixels.is_meta
    assert moved.has_image.is_meta
    assert moved.text_ids is None


def test_a_dense_similarity_gives_the_same_scores_in_every_layout(monkeypatch: pytest.MonkeyPatch) -> None:
    """By columns, by rows in several blocks, and for users without history alone."""
    monkeypatch.setattr(types, "_ROWS", 2)
    generator = torch.Generator().manual_seed(0)
    seen, similarity = (torch.rand(4, 5, generator=generator) < 0.5).float(), torch.randn(7, 5, generator=generator)
    seen[2] = 0
    expected = seen @ similarity.T
    for one in (similarity, similarity.T.contiguous().T):
        scorer = Neighbors(seen.to_sparse_csr(), one)
        torch.testing.assert_close(scorer.scores(torch.tensor([3, 2, 0])), expected[[3, 2, 0]])
        torch.testing.assert_close(scorer.scores(torch.tensor([2])), expected[[2]])
