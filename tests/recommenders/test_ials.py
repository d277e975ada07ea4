"""iALS against the published updates in NumPy, and as the Trainer trains it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from small import ITEMS, USERS, graph, interactions

from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.ials import IALS
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import WholeEpoch
from lmm4rec.training.trainer import Trainer

SETTINGS = {"unobserved_weight": 0.3, "l2_weight": 0.05, "frequency_power": 0.7}


def model(seed: int = 0, dim: int = 2, on: InteractionGraph | None = None) -> IALS:
    return IALS(on or graph(), {}, torch.Generator().manual_seed(seed), dim=dim, initial_std=1.0, **SETTINGS)


def dense(seed: int) -> tuple[InteractionGraph, np.ndarray]:
    """Histories of very different lengths, above and below the width of the vectors."""
    x = np.random.default_rng(seed).random((40, 30)) < np.linspace(0.02, 0.9, 30)
    users, items = map(torch.from_numpy, np.nonzero(x))
    return InteractionGraph(users, items, 40, 30), x.astype(float)


def l2_weights(x: np.ndarray) -> np.ndarray:
    """λ (|items of u| + α0 |I|)^ν for the rows of x."""
    frequencies = x.sum(1) + SETTINGS["unobserved_weight"] * x.shape[1]
    return SETTINGS["l2_weight"] * frequencies ** SETTINGS["frequency_power"]


def solved(x: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(sum over positives y yᵀ + α0 YᵀY + λ_u I)⁻¹ sum over positives y, row by row (Rendle et al. 2022, eq. 6)."""
    gram = SETTINGS["unobserved_weight"] * others.T @ others
    rows = []
    for row, weight in zip(x, l2_weights(x), strict=True):
        own = others[row > 0]
        rows.append(np.linalg.solve(own.T @ own + gram + weight * np.eye(len(gram)), own.sum(0)))
    return np.array(rows)


@pytest.mark.parametrize("dim", [2, 12])
def test_weights_of_interactions_by_hand(dim: int) -> None:
    """Hu et al. 2008, eq. 4 and 5, with the weights of Rendle et al.: (Yᵀ W Y + α0 YᵀY + λ_u I)⁻¹ Yᵀ W 1 row by row."""
    on, x = dense(2)
    weights = torch.rand(len(on.users), generator=torch.Generator().manual_seed(3)) * 5 + 0.1
    trained = model(dim=dim, on=InteractionGraph(on.users, on.items, 40, 30, weights))
    strength = np.zeros_like(x)
    strength[on.users, on.items] = weights
    items = trained.items.detach().double().numpy()
    terms = trained.sweep({}, torch.Generator())
    for matrix, table in ((strength, "users"), (strength.T, "items")):
        gram = SETTINGS["unobserved_weight"] * items.T @ items
        systems = np.einsum("ui,id,ie->ude", matrix, items, items) + gram
        systems += l2_weights(matrix)[:, None, None] * np.eye(dim)
        solution = np.linalg.solve(systems, (matrix @ items)[..., None])[..., 0]
        np.testing.assert_allclose(getattr(trained, table).detach().numpy(), solution, rtol=2e-3, atol=1e-5)
        items = solution
    errors = strength * (trained.users @ trained.items.T - 1).square().detach().numpy()
    assert float(terms["interactions"]) * x.sum() == pytest.approx(errors.sum(), rel=1e-3)


def test_repeated_interactions_add_their_weights() -> None:
    users, items = torch.tensor([0, 1, 0, 0]), torch.tensor([1, 0, 1, 2])
    on = InteractionGraph(users, items, 2, 3, torch.tensor([1.0, 2.0, 3.0, 0.5]))
    assert on.weights is not None
    assert on.weights.tolist() == [4.0, 0.5, 2.0]
    assert on.only(torch.tensor([1, 2])).weights.tolist() == [0.5, 2.0]  # type: ignore[union-attr]


def loss(x: np.ndarray, users: np.ndarray, items: np.ndarray) -> float:
    scores = users @ items.T
    squares = (x * (scores - 1) ** 2).sum() + SETTINGS["unobserved_weight"] * (scores**2).sum()
    return float(squares + l2_weights(x) @ (users**2).sum(1) + l2_weights(x.T) @ (items**2).sum(1))


@pytest.mark.parametrize("dim", [2, 12])
def test_a_sweep_is_the_published_update_and_reports_the_loss(dim: int) -> None:
    for on, x in ((graph(), interactions()), dense(0)):
        trained = model(dim=dim, on=on)
        items = trained.items.detach().double().numpy()
        for _ in range(3):
            terms = trained.sweep({}, torch.Generator())
            users = solved(x, items)
            items = solved(x.T, users)
            np.testing.assert_allclose(trained.users.detach().numpy(), users, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(trained.items.detach().numpy(), items, rtol=1e-3, atol=1e-5)
            assert float(sum(terms.values())) * x.sum() == pytest.approx(loss(x, users, items), rel=1e-4)


def test_the_loss_never_rises() -> None:
    trained = model(dim=8, on=dense(1)[0])
    losses = [float(sum(trained.sweep({}, torch.Generator()).values())) for _ in range(12)]
    assert all(later <= earlier * (1 + 1e-6) for earlier, later in pairwise(losses))
    assert losses[-1] < 0.9 * losses[0]


def test_users_and_items_without_interactions_get_zero() -> None:
    trained = model()
    trained.sweep({}, torch.Generator())
    scorer = trained.embed({})
    assert not scorer.users[USERS - 1].any()
    assert not scorer.items[ITEMS - 1].any()
    assert scorer.users[0].any()


def test_a_resumed_training_ends_in_the_same_vectors(tmp_path: Path) -> None:
    """Sweeps, validation, early stopping and checkpoints are those of the Trainer."""

    def trained(epochs: int, path: Path) -> tuple[IALS, list[float]]:
        on = dense(2)[0]
        recommender, batches = model(on=on), WholeEpoch(on.users, on.items, on.n_items)
        trainer = Trainer(epochs=epochs, metric="score", patience=0, device="cpu", checkpoint_every_s=0.0)
        objective = RankingObjective(recommender, Frozen({}))
        history = trainer.fit(
            objective, batches, lambda: {"score": float(recommender.users.detach().sum())}, state_file=path
        )
        return recommender, [row["loss"] for row in history.rows]

    whole, losses = trained(6, tmp_path / "whole")
    trained(3, tmp_path / "resumed")
    resumed, all_losses = trained(6, tmp_path / "resumed")
    assert all_losses == losses
    assert len(losses) == 6
    assert torch.equal(resumed.users, whole.users)
    assert torch.equal(resumed.items, whole.items)
