"""ItemKNN against similarities by hand and in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import make_plan
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


@pytest.mark.parametrize("similarity", ["interactions", "content"])
def test_features_are_needed_for_similarity_by_content_alone(similarity: str) -> None:
    recommender = {"name": "itemknn", "similarity": similarity}
    conf = {"recommender": recommender, "encoder": {"name": "words"}}
    plan = make_plan(load_spec({"data": {"name": "toyshop"}, **conf}))
    assert plan.recommender.reads_content == (similarity == "content")
    if similarity == "content":
        with pytest.raises(ConfigError, match=r"ItemKNN needs features: give the conf an \[encoder\] table"):
            make_plan(load_spec({"data": {"name": "toyshop"}, "recommender": recommender}))


def test_features_in_bfloat16_are_compared_in_float32() -> None:
    rounded = {m: x.bfloat16() for m, x in incomplete().items()}
    np.testing.assert_array_equal(similarities(rounded, 2), similarities({m: x.float() for m, x in rounded.items()}, 2))


def test_by_interactions_three_items_by_hand() -> None:
    """Items 0 and 1 have one user of 2 and 1 in common, 0 and 2 one of 2 and 2; the shrinkage is 1."""
    users, items = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 0, 2, 2]])
    graph = InteractionGraph(users, items, 3, 3)
    found = ItemKNN(graph, {}, NO_RANDOMNESS, shrinkage=1.0).embed({}).similarity.to_dense().numpy()
    one, two = 1 / (2**0.5 + 1), 1 / (2 + 1)
    np.testing.assert_allclose(found, [[0, one, two], [one, 0, 0], [two, 0, 0]], atol=1e-6)
