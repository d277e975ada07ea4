"""MMGCN against its equations in NumPy, and against the faults of its public codes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import small
import torch

from lmm4rec.recommenders.mmgcn import MMGCN


def model(**parameters: Any) -> MMGCN:
    given = {"dim": 4, "content_dim": 5} | parameters
    return MMGCN(small.graph(), small.features(), torch.Generator().manual_seed(0), **given)


def by_hand(weights: dict[str, np.ndarray], layers: int, concatenate: bool) -> np.ndarray:
    """Eq. 1 to 9, node by node in the mean."""
    total = 0.0
    for modality, features in small.features().items():
        x = np.concatenate([weights[f"preferences.{modality}"], features.numpy() @ weights[f"projections.{modality}"]])
        x = small.unit(x)
        for layer in range(layers):
            w = {k: weights[f"layers.{modality}.{layer}.{k}"] for k in ("neighbors", "own.weight", "own.offset")}
            w |= {k: weights[f"layers.{modality}.{layer}.joined.{k}"] for k in ("weight", "offset")}
            h = np.zeros((len(x), w["neighbors"].shape[1]))
            for node, row in enumerate(small.adjacency()):
                # who lacks the modality says nothing in the first layer
                heard = [j for j in np.flatnonzero(row) if layer or x[j].any()]
                if heard:
                    h[node] = np.mean([x[j] @ w["neighbors"] for j in heard], axis=0)
            h = small.leaky(h)
            bridge = small.leaky(x @ w["own.weight"] + w["own.offset"]) + weights["ids"]
            if concatenate:
                x = small.leaky(np.concatenate([h, bridge], axis=1) @ w["weight"] + w["offset"])
            else:
                x = small.leaky(h @ w["weight"] + w["offset"] + bridge)
        total = total + x
    return total


@pytest.mark.parametrize("combination", ["add", "concatenate"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_vectors_and_losses_are_the_papers(layers: int, combination: str) -> None:
    mmgcn = model(layers=layers, combination=combination, l2_weight=0.1)
    weights = small.number(mmgcn)
    expected = by_hand(weights, layers, combination == "concatenate")
    users, items = expected[: small.USERS], expected[small.USERS :]
    found = mmgcn.embed(small.features())
    np.testing.assert_allclose(found.users.detach(), users, atol=1e-5)
    np.testing.assert_allclose(found.items.detach(), items, atol=1e-5)
    losses = small.losses(mmgcn)
    assert losses["bpr"] == pytest.approx(small.bpr(users, items), rel=1e-5)
    u, i, j = (rows.numpy() for rows in small.batch())
    ids = [weights["ids"][rows] for rows in (u, i + small.USERS, j + small.USERS)]
    batch_rows = ids + [weights[f"preferences.{modality}"][u] for modality in small.features()]
    squares = sum((rows**2).sum() for rows in batch_rows)
    assert losses["l2"] == pytest.approx(0.1 * squares / 2 / len(u), rel=1e-5)


def test_ids_and_preferences_train() -> None:
    """In the public codes no optimizer sees them; without their penalty only the ranking can move them."""
    mmgcn = model(l2_weight=0.0)
    small.number(mmgcn)
    before = {name: parameter.detach().clone() for name, parameter in mmgcn.named_parameters()}
    optimizer = torch.optim.Adam(mmgcn.parameters())
    sum(mmgcn.losses(small.batch(), small.features(), torch.Generator()).values()).backward()
    optimizer.step()
    for name, parameter in mmgcn.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    assert {"ids", "preferences.image", "preferences.text"} <= set(before)


def test_each_layer_reaches_one_step_further() -> None:
    """A user's vector changes with the item that is `layers` steps away, and only with as many layers."""
    path = small.features()
    path["text"] = path["text"].clone()
    path["text"][0] += 1.0  # item 0 is three edges from user 1: user 0 has items 0 and 1, and user 1 has item 1
    for layers, moved in ((1, False), (2, False), (3, True)):
        mmgcn = model(layers=layers)
        one, other = mmgcn.embed(small.features()).users[1], mmgcn.embed(path).users[1]
        assert torch.allclose(one, other, atol=1e-7) != moved
