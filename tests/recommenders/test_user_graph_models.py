"""DualGNN and DRAGON against the equations in a few lines of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import small
from small import U

from lmm4rec.recommenders.dragon import DRAGON
from lmm4rec.recommenders.dualgnn import DualGNN


def by_modality(weights: dict[str, np.ndarray], layers: int) -> list[np.ndarray]:
    """The nodes of DualGNN and DRAGON: preferences and mapped features of length 1, summed over layers."""
    found = []
    for m, features in small.features().items():
        x = features.numpy()
        hidden = small.leaky(x @ weights[f"content.hidden.maps.{m}"] + weights[f"content.hidden.offsets.{m}"])
        items = hidden @ weights[f"content.maps.{m}.weight"] + weights[f"content.maps.{m}.offset"]
        start = small.unit(np.concatenate([weights[f"content.preferences.{m}"], items * x.any(1, keepdims=True)]))
        found.append(sum(np.linalg.matrix_power(small.normalized(), k) @ start for k in range(layers + 1)))
    return found


def l2_of_preferences(weights: dict[str, np.ndarray]) -> float:
    tables = [weights[f"content.preferences.{m}"] for m in small.features()] + [weights["importance"]]
    return sum(float((x[U] ** 2).sum()) for x in tables) / 2 / len(U)


def test_dualgnn() -> None:
    model = DualGNN(small.graph(), small.features(), small.generator(), dim=3, layers=2, neighbors=9, l2_weight=0.1)
    assert (model.importance == 0.5).all()
    weights = small.number(model)
    h = by_modality(weights, 2)
    users = sum(weights["importance"][:, [m]] * x[: small.USERS] for m, x in enumerate(h))
    users = users + small.similar_users() @ users
    items = sum(x[small.USERS :] for x in h)
    found = model.embed(small.features())
    small.close(found.users, users)
    small.close(found.items, items)
    expected = {"bpr": small.bpr(users, items), "l2": 0.1 * l2_of_preferences(weights)}
    assert small.losses(model) == pytest.approx(expected, rel=1e-5)


def test_dragon() -> None:
    shares = {"image": 0.25, "text": 0.75}
    model = DRAGON(
        small.graph(), small.features(), small.generator(),
        dim=3, layers=1, item_layers=2, neighbors=9, item_neighbors=3,
        modality_weights=shares, l2_weight=0.1,
    )  # fmt: skip
    weights = small.number(model)
    h = by_modality(weights, 1)
    users = np.concatenate([weights["importance"][:, [m]] * x[: small.USERS] for m, x in enumerate(h)], axis=1)
    users = users + small.similar_users() @ users
    items = np.concatenate([x[small.USERS :] for x in h], axis=1)
    s = small.similar_items(3, shares)
    items = items + s @ s @ items
    found = model.embed(small.features())
    small.close(found.users, users)
    small.close(found.items, items)
    assert found.parts == {"image": slice(0, 3), "text": slice(3, 6)}
    expected = {"bpr": small.bpr(users, items), "l2": 0.1 * l2_of_preferences(weights)}
    assert small.losses(model) == pytest.approx(expected, rel=1e-5)
