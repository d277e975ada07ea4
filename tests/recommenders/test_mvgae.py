"""MVGAE against its equations in a few lines of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch
from small import N, P, U

from lmm4rec.recommenders.mvgae import MVGAE, Posterior

Gaussian = tuple[np.ndarray, np.ndarray, np.ndarray]  # means, log variances, and who has one


def model(noise: float = 0.0, *, squash: bool = False) -> MVGAE:
    return MVGAE(
        small.graph(), small.features(), small.generator(),
        dim=4, content_dim=3, layers=1, dropout=0.0, noise=noise, squash=squash, kl_weight=0.1,
    )  # fmt: skip


def by_hand(w: dict[str, np.ndarray]) -> list[Gaussian]:
    """The experts: each modality, then the ids."""
    a = small.adjacency() + np.eye(small.USERS + small.ITEMS)
    a /= a.sum(1, keepdims=True)
    everyone = np.ones(small.USERS, bool)
    starts = [("id_expert", w["nodes"], np.ones(len(a), bool))]
    for m, features in reversed(small.features().items()):
        start = np.concatenate([w[f"preferences.{m}"], small.projected(w, m)])
        starts.insert(0, (f"experts.{m}", start, np.concatenate([everyone, features.numpy().any(1)])))
    found = []
    for name, start, has in starts:
        convolved = lambda part, x: small.leaky(small.unit(a @ small.affine(w, part, x)))  # noqa: E731
        x = small.leaky(small.affine(w, f"{name}.layers_joined.0", convolved(f"{name}.layers.0", small.unit(start))))
        mean, log_variance = (
            small.affine(w, f"{name}.joined.{head}", convolved(f"{name}.neighbors.{head}", x))
            + small.leaky(small.affine(w, f"{name}.own.{head}", x))
            for head in ("mean", "log_variance")
        )
        found.append((mean, log_variance, has))
    return found


def multiplied(experts: list[Gaussian]) -> Gaussian:
    precisions = [has[:, None] / np.exp(log_variance) for _, log_variance, has in experts]
    means = sum(t * mean for t, (mean, _, _) in zip(precisions, experts, strict=True)) / sum(precisions)
    return means, -np.log(sum(precisions)), np.ones(len(means), bool)


def test_the_vectors_are_the_means_of_the_product() -> None:
    for squash in (False, True):
        mvgae = model(squash=squash)
        users, items = small.sides(multiplied(by_hand(small.number(mvgae)))[0])
        found = mvgae.embed(small.features())
        small.close(found.users, small.sigmoid(users) if squash else users)
        small.close(found.items, small.sigmoid(items) if squash else items)


def test_losses() -> None:
    mvgae = model()
    experts = by_hand(small.number(mvgae))
    bpr, kl = [], []
    for mean, log_variance, has in [multiplied(experts), *experts]:
        users, items = small.sides(mean)
        pairs = has[small.USERS :][P][:, None] & has[small.USERS :][N]
        scores = users[U] @ items.T
        difference = (scores[range(3), P][:, None] - np.take_along_axis(scores, N, 1)) * pairs
        bpr.append(np.log1p(np.exp(-difference)).mean())
        kl.append(0.5 * (mean**2 + np.exp(log_variance) - log_variance - 1).sum(1)[has].mean())
    expected = {"bpr": bpr[0], "bpr_by_expert": sum(bpr[1:]), "kl": 0.1 * sum(kl)}
    assert small.losses(mvgae) == pytest.approx(expected, rel=1e-5)


def test_noise_is_drawn_in_training_alone() -> None:
    mvgae = model(noise=1.0)
    small.number(mvgae)
    assert small.losses(mvgae, seed=0)["bpr"] != small.losses(mvgae, seed=1)["bpr"]
    assert torch.equal(mvgae.embed(small.features()).items, mvgae.embed(small.features()).items)


def test_the_divergence_of_standard_gaussians_is_zero() -> None:
    zeros = torch.zeros(3, 2)
    assert Posterior(zeros, zeros, torch.ones(3, dtype=torch.bool)).divergence() == 0
