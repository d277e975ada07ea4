"""GRCN against its equations in NumPy, edge by edge."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch

from lmm4rec.recommenders.grcn import GRCN


def softmax(dots: np.ndarray, axis: int, mask: np.ndarray) -> np.ndarray:
    shares = np.exp(dots) * mask
    return shares / np.maximum(shares.sum(axis, keepdims=True), 1e-300)


def by_hand(weights: dict[str, np.ndarray], layers: int, routing: int) -> tuple[np.ndarray, np.ndarray]:
    users, items, to_users, to_items = [], [], [], []
    user_trust, item_trust = np.split(weights["confidence"], [small.USERS])
    for m, (modality, features) in enumerate(small.features().items()):
        x = features.numpy()
        f = small.unit(small.leaky(x @ weights[f"projections.{modality}"] + weights[f"offsets.{modality}"]))
        f = f * x.any(1, keepdims=True)
        edges = small.interactions() * x.any(1)
        p = small.unit(weights[f"prototypes.{modality}"])
        for _ in range(routing):
            p = small.unit(p + softmax(p @ f.T, 1, edges) @ f)
        received, given = softmax(p @ f.T, 1, edges), softmax(p @ f.T, 0, edges)
        users.append(p + received @ f)
        items.append(f + given.T @ p)
        to_users.append(received * item_trust[:, m])
        to_items.append(given * user_trust[:, [m]])
    bare = small.interactions() * ~np.any([x.numpy().any(1) for x in small.features().values()], axis=0)
    to_users.append(bare / np.maximum(small.interactions().sum(1, keepdims=True), 1))
    to_items.append(bare / np.maximum(small.interactions().sum(0), 1))
    # the largest over modalities, pruned where it is negative
    to_users, to_items = np.maximum(np.max(to_users, 0), 0), np.maximum(np.max(to_items, 0), 0)
    u, i = np.split(small.unit(weights["ids"]), [small.USERS])
    user_ids, item_ids = u, i
    for _ in range(layers):
        u, i = to_users @ i, to_items.T @ u
        user_ids, item_ids = user_ids + u, item_ids + i
    return np.concatenate([user_ids, *users], axis=1), np.concatenate([item_ids, *items], axis=1)


@pytest.mark.parametrize(("layers", "routing"), [(1, 0), (2, 3)])
def test_vectors_and_losses_are_the_papers(layers: int, routing: int) -> None:
    given = {"dim": 4, "content_dim": 5, "layers": layers, "routing": routing, "l2_weight": 0.1}
    grcn = GRCN(small.graph(), small.features(), torch.Generator().manual_seed(0), **given)
    weights = small.number(grcn)
    users, items = by_hand(weights, layers, routing)
    found = grcn.embed(small.features())
    np.testing.assert_allclose(found.users.detach(), users, atol=1e-5)
    np.testing.assert_allclose(found.items.detach(), items, atol=1e-5)
    losses = small.losses(grcn)
    assert losses["bpr"] == pytest.approx(small.bpr(users, items), rel=1e-5)
    u, i, j = (rows.numpy() for rows in small.batch())
    ids = [weights["ids"][rows] for rows in (u, i + small.USERS, j + small.USERS)]
    batch_rows = ids + [weights[f"prototypes.{modality}"][u] for modality in small.features()]
    assert losses["l2"] == pytest.approx(0.1 * sum((rows**2).sum() for rows in batch_rows) / 2 / len(u), rel=1e-5)


def test_gradient_is_that_of_finite_differences() -> None:
    """Through routing, both softmaxes and pruning, in each parameter."""
    grcn = GRCN(small.graph(), small.features(), torch.Generator().manual_seed(0), dim=3, content_dim=3).double()
    features = {modality: x.double() for modality, x in small.features().items()}

    def loss() -> torch.Tensor:
        return grcn.losses(small.batch(), features, torch.Generator())["bpr"]

    loss().backward()
    for name, parameter in grcn.named_parameters():
        direction = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        with torch.no_grad():
            parameter.add_(1e-5 * direction)
            above = loss()
            parameter.sub_(2e-5 * direction)
            below = loss()
            parameter.add_(1e-5 * direction)
        slope = float((above - below) / 2e-5)
        assert float((parameter.grad * direction).sum()) == pytest.approx(slope, abs=1e-7), name


def test_prototypes_move_to_the_items_of_the_users() -> None:
    """In the public port, routing sends messages to the items, and prototypes stay where they were."""
    given = {"dim": 4, "content_dim": 5}
    still, moved = (
        GRCN(small.graph(), small.features(), torch.Generator().manual_seed(0), routing=routing, **given)
        for routing in (0, 3)
    )
    users = [model.embed(small.features()).users[0, 4:9] for model in (still, moved)]
    assert not torch.allclose(*users)
