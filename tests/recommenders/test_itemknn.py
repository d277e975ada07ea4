"""ItemKNN against similarities by hand and in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.itemknn import ItemKNN

NO_RANDOMNESS = torch.Generator()


def similarities(features: dict[str, Tensor], neighbors: int) -> np.ndarray:
    """The kept similarities by content: row i, column j is what i gets from an item j of a history."""
    items = torch.arange(len(next(iter(features.values()))))
    graph = InteractionGraph(items, items, len(items), len(items))
    model = ItemKNN(graph, features, NO_RANDOMNESS, similarity="content", neighbors=neighbors)
    return model.embed(features).similarity.to_dense().numpy()


def incomplete() -> dict[str, Tensor]:
    """Item 0 has both modalities, item 1 only a text (cosine 0.9), item 2 both (cosine 0.6 in each)."""
    image = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.6, 0.8]])
    return {"image": image, "text": torch.tensor([[1.0, 0.0], [0.9, 0.19**0.5], [0.6, 0.8]])}


def test_neighbors_by_content_are_those_of_the_highest_mean_similarity() -> None:
    """The means of item 0 are 0.9 / 2 to item 1 and (0.6 + 0.6) / 2 to item 2."""
    np.testing.assert_allclose(similarities(incomplete(), 1)[:, 0], [0, 0, 0.6], atol=1e-6)
    np.testing.assert_allclose(similarities(incomplete(), 2)[:, 0], [0, 0.45, 0.6], atol=1e-6)


@pytest.mark.parametrize("neighbors", [1, 5, 29, 100])
def test_similarities_by_content_are_brute_force(neighbors: int) -> None:
    rng = np.random.default_rng(0)
    tables = {"image": rng.standard_normal((30, 4)), "text": rng.standard_normal((30, 6))}
    tables["image"][::2] = 0
    tables["text"][[3, 8]] = 0  # item 8 has nothing
    mean = np.zeros((30, 30))
    for x in tables.values():
        unit = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        mean += unit @ unit.T / 2
    np.fill_diagonal(mean, -np.inf)
    smallest = np.sort(mean, axis=1)[:, -min(neighbors, 29)]
    expected = np.where((mean >= smallest[:, None]) & (mean > 0), mean, 0).T
    found = similarities({m: torch.from_numpy(x).float() for m, x in tables.items()}, neighbors)
    np.testing.assert_allclose(found, expected, atol=1e-6)
