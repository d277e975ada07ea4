"""UserKNN against cosines in NumPy, for known users and for histories that are new."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from lmm4rec.coldstart.user_fold_in import fold_in_neighbors
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.userknn import UserKNN
from lmm4rec.serving.bundle import Bundle

NO_RANDOMNESS = torch.Generator()
X = (np.random.default_rng(0).random((12, 9)) < 0.35).astype(float)
X[5] = 0  # a user without history
GRAPH = InteractionGraph(*map(torch.from_numpy, np.nonzero(X)), *X.shape)


def weights(name: str) -> np.ndarray:
    return np.log(len(X) / np.maximum(X.sum(0), 1)) if name == "idf" else np.ones(X.shape[1])


def expected(history: np.ndarray, others: np.ndarray, k: int, shrinkage: float, name: str) -> np.ndarray:
    """The scores of a history by its `k` most similar rows of `others`, user by user."""
    w = weights(name)
    h, v = history * w, others * w
    norms = np.linalg.norm(h) * np.linalg.norm(v, axis=1)
    similarity = v @ h / np.maximum(norms + shrinkage, 1e-12)
    chosen = np.argsort(-similarity, kind="stable")[:k]
    return similarity[chosen] @ others[chosen]


def test_three_users_by_hand() -> None:
    """User 0 has items 0 and 1; user 1 items 1 and 2, user 2 item 0: cosines 1/2 and 1/sqrt(2)."""
    users, items = torch.tensor([[0, 0, 1, 1, 2], [0, 1, 1, 2, 0]])
    scorer = UserKNN(InteractionGraph(users, items, 3, 3), {}, NO_RANDOMNESS).embed({})
    torch.testing.assert_close(scorer.scores(torch.tensor([0])), torch.tensor([[0.5**0.5, 0.5, 0.5]]))
    nearest = UserKNN(InteractionGraph(users, items, 3, 3), {}, NO_RANDOMNESS, neighbors=1).embed({})
    torch.testing.assert_close(nearest.scores(torch.tensor([0])), torch.tensor([[0.5**0.5, 0.0, 0.0]]))


@pytest.mark.parametrize(("k", "shrinkage", "name"), [(12, 0.0, "none"), (12, 2.0, "idf"), (3, 0.7, "idf")])
def test_scores_are_those_of_the_most_similar_users(k: int, shrinkage: float, name: str) -> None:
    scorer = UserKNN(GRAPH, {}, NO_RANDOMNESS, neighbors=k, shrinkage=shrinkage, weights=name).embed({})
    for user, scores in enumerate(scorer.scores(torch.arange(len(X))).numpy()):
        others = X.copy()
        others[user] = 0  # no user is the own neighbor
        np.testing.assert_allclose(scores, expected(X[user], others, k, shrinkage, name), rtol=1e-4, atol=1e-6)
    history = np.array([1, 4, 7])
    folded = fold_in_neighbors(scorer, history).numpy()
    np.testing.assert_allclose(
        folded, expected(np.isin(np.arange(X.shape[1]), history), X, k, shrinkage, name), rtol=1e-4, atol=1e-6
    )


def test_similar_items_are_those_with_common_users() -> None:
    similarity = UserKNN(GRAPH, {}, NO_RANDOMNESS).embed({}).similarity.to_dense().numpy()
    norms = np.maximum(np.linalg.norm(X, axis=0), 1e-12)
    cosines = X.T @ X / norms / norms[:, None]
    np.fill_diagonal(cosines, 0)
    np.testing.assert_allclose(similarity, cosines, atol=1e-6)


def test_a_bundle_folds_in_explains_and_finds_similar_items(tmp_path: Path) -> None:
    users, items = Vocabulary([f"u{row}" for row in range(12)], kind="user"), Vocabulary(list("abcdefghi"))
    log = Interactions(GRAPH.users.numpy().astype(np.int32), GRAPH.items.numpy().astype(np.int32))
    scorer = UserKNN(GRAPH, {}, NO_RANDOMNESS, neighbors=4, shrinkage=0.5, weights="idf").embed({})
    bundle = Bundle(scorer, users, items, list(items), log, {"model": "UserKNN"})
    bundle.save_pretrained(tmp_path / "bundle")
    loaded = Bundle.from_pretrained(tmp_path / "bundle")
    assert loaded.recommend_for(["b", "e"], k=3) == bundle.recommend_for(["b", "e"], k=3)
    (best, *_), (similar, *_) = loaded.recommend(["u0"], k=3)["u0"], loaded.similar(["b"], k=3)["b"]
    assert loaded.explain("u0", best.item).score == pytest.approx(best.score)
    assert similar.item == items[int(scorer.similarity.to_dense()[:, 1].argmax())]
