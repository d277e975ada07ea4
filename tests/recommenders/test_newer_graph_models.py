"""Later graph models against their papers' equations in a few lines of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch

from lmm4rec.recommenders.dragon import DRAGON
from lmm4rec.recommenders.dualgnn import DualGNN
from lmm4rec.recommenders.layergcn import LayerGCN
from lmm4rec.recommenders.selfcf import SelfCF

U, P, N = (rows.numpy() for rows in small.batch())


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def normalized() -> np.ndarray:
    """D^-1/2 A D^-1/2 over users, then items."""
    a = small.adjacency()
    scale = 1 / np.sqrt(np.maximum(a.sum(1), 1))
    return scale[:, None] * a * scale


def similar_users() -> np.ndarray:
    """The softmax of the numbers of items in common, over all users with at least one."""
    counts = small.interactions() @ small.interactions().T
    np.fill_diagonal(counts, 0)
    shares = np.exp(counts) * (counts > 0)
    return shares / np.maximum(shares.sum(1, keepdims=True), 1e-300)


def similar_items(neighbors: int, weights: dict[str, float]) -> np.ndarray:
    """FREEDOM's: ones at the nearest of each modality, D^-1/2 S D^-1/2, mixed."""
    mixed = np.zeros((small.ITEMS, small.ITEMS))
    for m, features in small.features().items():
        x = features.numpy().astype(np.float64)
        has = x.any(1)
        cosine = small.unit(x) @ small.unit(x).T  # 0 for an item that lacks the modality, which loses its edges
        s = (cosine >= np.sort(cosine, axis=1)[:, [-neighbors]]) & has & has[:, None]
        scale = 1 / np.sqrt(np.maximum(s.sum(1), 1))
        mixed += weights[m] * scale[:, None] * s * scale
    return mixed


def sides(nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return nodes[: small.USERS], nodes[small.USERS :]


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.detach(), expected, atol=1e-5)


def test_layergcn() -> None:
    model = LayerGCN(small.graph(), {}, generator(), dim=4, layers=3, dropout=0.0, l2_weight=0.1)
    ego = small.number(model)["nodes"]
    current, total = ego, np.zeros_like(ego)
    for _ in range(3):
        current = normalized() @ current
        current = (small.unit(current) * small.unit(ego)).sum(1, keepdims=True) * current
        total += current
    found = model.embed({})
    close(torch.cat([found.users, found.items]), total)
    losses = small.losses(model)
    assert losses["bpr"] == pytest.approx(small.bpr(*sides(total)), rel=1e-5)
    rows = [ego[U], ego[P + small.USERS], ego[N + small.USERS]]
    assert losses["l2"] == pytest.approx(0.1 * sum((x**2).sum() for x in rows) / 2 / len(U), rel=1e-5)


def test_layergcn_trains_on_a_pruned_graph_and_ranks_over_all_of_it() -> None:
    model = LayerGCN(small.graph(), {}, generator(), dim=4, dropout=0.5)
    before = model.embed({}).scores(torch.arange(small.USERS))
    model.begin_epoch({}, generator())
    assert len(model.pruned.matrix.values()) == len(model.adjacency.matrix.values()) // 2
    assert torch.equal(model.embed({}).scores(torch.arange(small.USERS)), before)


def test_selfcf() -> None:
    model = SelfCF(small.graph(), {}, generator(), dim=4, layers=2, dropout=0.0, l2_weight=0.1)
    weights = small.number(model)
    users, items = sides(small.light(small.adjacency(), 2) @ weights["nodes"])
    f = [side @ weights["predictor.weight"] + weights["predictor.offset"] for side in (users, items)]
    found = model.embed({}).scores(torch.arange(small.USERS))
    close(found, f[0] @ items.T + users @ f[1].T)
    losses = small.losses(model)
    cosines = [(small.unit(f[0][U]) * small.unit(items[P])).sum(1), (small.unit(f[1][P]) * small.unit(users[U])).sum(1)]
    assert losses["predict"] == pytest.approx(1 - np.mean(cosines), rel=1e-5)
    squares = (users[U] ** 2).sum() + (items[P] ** 2).sum()
    assert losses["l2"] == pytest.approx(0.1 * squares / 2 / len(U), rel=1e-5)


def test_selfcf_gives_targets_no_gradient() -> None:
    """Else users and items would collapse to one vector."""
    model = SelfCF(small.graph(), {}, generator(), dim=4, dropout=0.0)
    vectors = torch.randn(small.USERS + small.ITEMS, 4, generator=generator())
    with torch.no_grad():
        model.nodes.copy_(vectors)
        model.predictor.weight.zero_()  # nothing passes through the predictor
        model.predictor.offset.fill_(1.0)
    model.losses(small.batch(), {}, generator())["predict"].backward()
    assert (model.nodes.grad == 0).all()


def by_modality(weights: dict[str, np.ndarray], layers: int) -> list[np.ndarray]:
    """The nodes of DualGNN and DRAGON: preferences and mapped features of length 1, summed over layers."""
    found = []
    for m, features in small.features().items():
        x = features.numpy()
        hidden = small.leaky(x @ weights[f"content.hidden.maps.{m}"] + weights[f"content.hidden.offsets.{m}"])
        items = hidden @ weights[f"content.maps.{m}.weight"] + weights[f"content.maps.{m}.offset"]
        start = small.unit(np.concatenate([weights[f"content.preferences.{m}"], items * x.any(1, keepdims=True)]))
        found.append(sum(np.linalg.matrix_power(normalized(), k) @ start for k in range(layers + 1)))
    return found


def l2_of_preferences(weights: dict[str, np.ndarray]) -> float:
    tables = [weights[f"content.preferences.{m}"] for m in small.features()] + [weights["importance"]]
    return sum(float((x[U] ** 2).sum()) for x in tables) / 2 / len(U)


def test_dualgnn() -> None:
    model = DualGNN(small.graph(), small.features(), generator(), dim=3, layers=2, neighbors=9, l2_weight=0.1)
    assert (model.importance == 0.5).all()
    weights = small.number(model)
    h = by_modality(weights, 2)
    users = sum(weights["importance"][:, [m]] * x[: small.USERS] for m, x in enumerate(h))
    users = users + similar_users() @ users
    items = sum(x[small.USERS :] for x in h)
    found = model.embed(small.features())
    close(found.users, users)
    close(found.items, items)
    expected = {"bpr": small.bpr(users, items), "l2": 0.1 * l2_of_preferences(weights)}
    assert small.losses(model) == pytest.approx(expected, rel=1e-5)


def test_dragon() -> None:
    shares = {"image": 0.25, "text": 0.75}
    model = DRAGON(
        small.graph(), small.features(), generator(), dim=3, layers=1, item_layers=2, neighbors=9, item_neighbors=3,
        modality_weights=shares, l2_weight=0.1,
    )  # fmt: skip
    weights = small.number(model)
    h = by_modality(weights, 1)
    users = np.concatenate([weights["importance"][:, [m]] * x[: small.USERS] for m, x in enumerate(h)], axis=1)
    users = users + similar_users() @ users
    items = np.concatenate([x[small.USERS :] for x in h], axis=1)
    s = similar_items(3, shares)
    items = items + s @ s @ items
    found = model.embed(small.features())
    close(found.users, users)
    close(found.items, items)
    assert found.parts == {"image": slice(0, 3), "text": slice(3, 6)}
    expected = {"bpr": small.bpr(users, items), "l2": 0.1 * l2_of_preferences(weights)}
    assert small.losses(model) == pytest.approx(expected, rel=1e-5)
