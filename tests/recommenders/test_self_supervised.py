"""GUME, MENTOR and COHESION against their equations in NumPy."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from small import (
    ITEMS,
    USERS,
    adjacency,
    affine,
    batch,
    bpr,
    check,
    features,
    generator,
    graph,
    half_squares,
    info_nce,
    interactions,
    leaky,
    losses,
    means_of_powers,
    number,
    projected,
    row_normalized,
    rows_of_batch,
    sigmoid,
    softmax,
    unit,
)

from lmm4rec.recommenders.cohesion import COHESION
from lmm4rec.recommenders.gume import GUME
from lmm4rec.recommenders.mentor import MENTOR

Array = np.ndarray
DIM = 4


def neighbors(m: str, k: int) -> Array:
    """Cosine similarities of the k nearest items, the item itself among them; 0 without content."""
    x = unit(features()[m].numpy().astype(float))
    cosine = x @ x.T
    return np.where(cosine >= np.sort(cosine, axis=1)[:, -k][:, None], cosine, 0.0)


def noisy(rows: Array, size: float, draws: torch.Generator) -> Array:
    """The rows moved by uniform noise, scaled to a length, in their own orthant."""
    return rows + size * np.sign(rows) * unit(torch.rand(rows.shape, generator=draws).numpy().astype(float))


def gap(one: Array, other: Array) -> float:
    return float(abs(one.var(ddof=1) - other.var(ddof=1)) + abs(one.mean() - other.mean()))


def test_gume() -> None:
    model = GUME(
        graph(), features(), generator(), dim=DIM, layers=2, item_layers=2, neighbors=3, gap_weight=0.3,
        behavior_weight=0.5, behavior_temperature=0.4, interest_weight=0.7, interest_temperature=0.6, l2_weight=0.1,
        interest_l2_weight=0.2,
    )  # fmt: skip
    w = number(model)
    linked = adjacency()
    linked[USERS:, USERS:] = (neighbors("image", 3) != 0) & (neighbors("text", 3) != 0) & ~np.eye(ITEMS, dtype=bool)
    assert 0 < linked[USERS:, USERS:].sum() < 2 * ITEMS
    a = row_normalized(linked)
    explicit = {}
    for m in features():
        own = w["nodes"][USERS:] * sigmoid(affine(w, f"gates.{m}", projected(w, m)))
        items = np.linalg.matrix_power(row_normalized(neighbors(m, 3)), 2) @ own
        explicit[m] = np.concatenate([a[:USERS, USERS:] @ items, items])
    behavior = means_of_powers(a, w["nodes"], 2)
    mean = sum(explicit.values()) / 2
    extended = means_of_powers(a, np.concatenate([w["interests"], mean[USERS:]]), 2)
    asked = [np.tanh(affine(w, "query", p)) @ w["asked"] for p in explicit.values()]
    attention = softmax(np.concatenate(asked, 1), 1)
    shared = sum(attention[:, [k]] * p for k, p in enumerate(explicit.values()))
    fine = [sigmoid(affine(w, f"preferences.{m}", behavior)) * (p - shared) for m, p in explicit.items()]
    integrated = (shared + sum(fine)) / 3
    final = behavior + integrated
    check(model, final[:USERS], final[USERS:])

    u, i = batch().users.numpy(), batch().positives.numpy() + USERS
    draws = generator()
    noise = [[noisy(view[u], 0.1, draws) for _ in range(2)] for view in (integrated, extended)]
    pairs = [(extended[u], integrated[u]), *noise]
    assert losses(model) == pytest.approx(
        {
            "bpr": bpr(final[:USERS], final[USERS:]),
            "gap": 0.3 * gap(*explicit.values()),
            "behavior": 0.5 * sum(info_nce(integrated[rows], behavior[rows], 0.4) for rows in (u, i)),
            "interests": 0.7 * sum(info_nce(*pair, 0.6) for pair in pairs),
            "l2": 0.1 * half_squares(*rows_of_batch(final[:USERS], final[USERS:])) + 0.2 * half_squares(extended[i]),
        },
        rel=1e-4,
    )


def test_gume_links_items_by_any_number_of_neighbors() -> None:
    """The authors' code assumes lists of 10 neighbors; with all items as neighbors, all with both modalities link."""
    model = GUME(graph(), features(), generator(), dim=DIM, neighbors=ITEMS)
    linked = model.content(features()).adjacency.matrix.to_dense()[USERS:, USERS:] > 0
    complete = features()["image"].any(1)
    assert torch.equal(linked, complete[:, None] & complete & ~torch.eye(ITEMS, dtype=torch.bool))


def lightgcn_sum(nodes: Array, layers: int, change: Any = None) -> Array:
    """The sum of the nodes' vectors after 0 to `layers` steps; `change` follows each step."""
    a = row_normalized(adjacency())
    total = current = nodes
    for _ in range(layers):
        current = a @ current if change is None else change(a @ current)
        total = total + current
    return total


def frozen_item_graph(k: int) -> Array:
    """The equal mean over modalities of binary kNN graphs, each normalized."""
    present = {m: features()[m].numpy().any(1) for m in features()}
    parts = [row_normalized((neighbors(m, k) != 0) & np.outer(has, has)) for m, has in present.items()]
    return sum(parts) / len(parts)


def deep(weights: dict[str, Array], m: str) -> Array:
    """LeakyReLU(x W + b) V + c, zeros for an item that lacks the modality."""
    x = features()[m].numpy()
    hidden = x @ weights[f"projections.inner.maps.{m}"] + weights[f"projections.inner.offsets.{m}"]
    return np.where(x.any(1)[:, None], affine(weights, f"projections.outer.{m}", leaky(hidden)), 0)


def mentor(**hyper: float) -> MENTOR:
    weights = {"gap_weight": 0.3, "mask_weight": 0.5, "contrast_weight": 0.7, "l2_weight": 0.1} | hyper
    return MENTOR(
        graph(), features(), generator(), dim=DIM, layers=2, item_layers=2, neighbors=3, temperature=0.6, dropout=0.0,
        noise=0.2, **weights,
    )  # type: ignore[arg-type]  # fmt: skip


def test_mentor() -> None:
    model = mentor()
    w = number(model)
    starts = {m: unit(np.concatenate([w[f"users.{m}"], deep(w, m)])) for m in features()}
    starts = {"id": unit(w["ids"]), **starts}
    similar = frozen_item_graph(3)

    def smooth(nodes: Array) -> Array:
        return np.concatenate([nodes[:USERS], nodes[USERS:] + similar @ similar @ nodes[USERS:]])

    def fuse(h: dict[str, Array]) -> Array:
        weights = np.concatenate([w["user_weights"], np.ones((ITEMS, 2))])
        return np.concatenate([weights[:, [k]] * h[m] for k, m in enumerate(features())], 1)

    h = {b: smooth(lightgcn_sum(x, 2)) for b, x in starts.items()}
    r = fuse(h)
    check(model, r[:USERS], r[USERS:])

    u, i, j = (part.numpy() for part in batch())
    sides = np.unique(u), np.unique(np.concatenate([i, j.flatten()])) + USERS
    predicted = affine(w, "predictor", r)
    cosines = [(unit(predicted[nodes]) * unit(r[nodes])).sum(1).mean() for nodes in sides]
    draws, content = generator(), [m for m in starts if m != "id"]
    for nodes in sides:  # masking draws first, though nothing is masked
        torch.rand(len(nodes), 2 * DIM, generator=draws)

    def copy() -> Array:
        """Both modalities under noise, drawn together after each step."""
        both = np.stack([starts[m] for m in content], 1)

        def change(step: Array) -> Array:
            return noisy(step.reshape(-1, DIM), 0.2, draws).reshape(step.shape)

        found = lightgcn_sum(both.reshape(len(both), -1), 2, change).reshape(both.shape)
        return fuse({m: smooth(found[:, k]) for k, m in enumerate(content)})

    copies = copy(), copy()
    views = [r, *h.values()]
    assert losses(model) == pytest.approx(
        {
            "bpr": bpr(r[:USERS], r[USERS:]),
            "l2": 0.1 * half_squares(*(w[f"users.{m}"][u] for m in features()), w["user_weights"][u]),
            "gap": 0.3 * sum(gap(*pair) for pair in itertools.combinations(views, 2)),
            "mask": 0.5 * sum(1 - cosine for cosine in cosines),
            "contrast": 0.7 * sum(info_nce(*(side[nodes] for side in copies), 0.6) for nodes in sides),
        },
        rel=1e-4,
    )


@pytest.mark.parametrize("name", ["mask", "contrast"])
def test_self_supervision_of_mentor_trains_what_ranks(name: str) -> None:
    """In the authors' code, masking has no gradient, and noisy copies come from networks that rank nothing."""
    model = mentor()
    number(model)
    model.losses(batch(), features(), generator())[name].backward()
    for weight in (model.users["text"], model.projections.outer["text"].weight):
        assert weight.grad is not None
        assert weight.grad.any()


def test_cohesion() -> None:
    model = COHESION(
        graph(), features(), generator(), dim=DIM, layers=2, item_layers=2, neighbors=3, user_neighbors=3, l2_weight=0.1
    )
    w = number(model)
    ids = w["ids"][USERS:]
    starts = {"id": w["ids"]}
    for m in features():
        starts[m] = np.concatenate([w[f"users.{m}"], np.sqrt((ids**2 + deep(w, m) ** 2) / 2)])
    a, branches = row_normalized(adjacency()), []
    for x in starts.values():
        total = current = unit(x)
        for _ in range(2):
            current = a @ current
            current = (unit(current) * unit(x)).sum(1, keepdims=True) * current
            total = total + current
        branches.append(total)
    h = np.concatenate(branches, 1)
    similar = frozen_item_graph(3)
    items = h[USERS:] + similar @ similar @ h[USERS:]
    common = interactions() @ interactions().T
    np.fill_diagonal(common, 0)
    friends = (common > 0) / np.maximum((common > 0).sum(1, keepdims=True), 1)  # any two users share one item at most
    users = h[:USERS] + friends @ h[:USERS]
    check(model, users, items)

    u, i, j = (part.numpy() for part in batch())
    total = 0.0
    for row in range(len(u)):
        for negative in j[row]:
            d = (users[u[row]] * (items[i[row]] - items[negative])).reshape(3, DIM).sum(1)
            total += np.log1p(np.exp(-((1 - softmax(d, 0)) * d).sum()))
    tables = [w["ids"][u], *(w[f"users.{m}"][u] for m in features())]
    assert losses(model) == pytest.approx({"bpr": total / j.size, "l2": 0.1 * half_squares(*tables)}, rel=1e-4)


def test_the_id_branch_of_cohesion_trains_and_the_weights_of_branches_do_not() -> None:
    """In the authors' code the id branch is cut off from the gradient, so its users stay as they were drawn."""
    model = COHESION(graph(), features(), generator(), dim=DIM, neighbors=3)
    number(model)
    model.losses(batch(), features(), generator())["bpr"].backward()
    found = model.ids.grad.clone()
    assert (found[batch().users] != 0).all()
    model.zero_grad()
    users, items = model._vectors(features(), model.similar_items(features()))
    u, i, j = batch()
    scores = (users[u, None, None] * torch.stack([items[i][:, None].expand(-1, 2, -1), items[j]], 2)).view(
        3, 2, 2, 3, DIM
    )
    difference = scores.sum(4)[:, :, 0] - scores.sum(4)[:, :, 1]
    weights = torch.from_numpy(1 - softmax(difference.detach().numpy(), 2))
    torch.nn.functional.softplus(-(weights * difference).sum(2)).mean().backward()
    torch.testing.assert_close(found, model.ids.grad)
