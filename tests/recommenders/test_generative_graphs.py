"""MMSSL against its equations in NumPy."""

from __future__ import annotations

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
    interactions,
    leaky,
    light,
    losses,
    number,
    projected,
    rows_of_batch,
    sigmoid,
    softmax,
    unit,
)  # fmt: skip

from lmm4rec.core.errors import ConfigError
from lmm4rec.recommenders.mmssl import MMSSL

Array = np.ndarray
DIM, HEADS = 4, 2


def by_root(relations: Array) -> tuple[Array, Array]:
    """What gathers items for users, and users for items."""
    return tuple(r / np.sqrt(np.maximum(r.sum(1, keepdims=True), 1)) for r in (relations, relations.T))


def nearest(users: Array, items: Array, k: int) -> Array:
    cosine = unit(users) @ unit(items).T
    usable = np.outer(users.any(1), items.any(1))
    cosine = np.where(usable, cosine, -np.inf)
    return (cosine >= np.sort(cosine, axis=1)[:, -k][:, None]) & usable


def mmssl(**hyper: float) -> MMSSL:
    given = {"adversarial_weight": 0.3, "contrast_weight": 0.5, "l2_weight": 0.1, "critic_dropout": 0.0} | hyper
    return MMSSL(
        graph(), features(), generator(), dim=DIM, layers=2, heads=HEADS, relations=2, relation_weight=0.4,
        content_weight=0.6, dropout=0.0, critic_dim=4, penalty=0.7, relation_noise=0.5, signal=2.0, temperature=0.6,
        **given,
    )  # type: ignore[arg-type]  # fmt: skip


class ByHand:
    """All vectors of MMSSL in NumPy."""

    def __init__(self, w: dict[str, Array]) -> None:
        to_users, to_items = by_root(interactions())
        self.users = {m: to_users @ projected(w, m) for m in features()}
        self.items = {m: to_items @ self.users[m] for m in features()}
        self.related, related_items = {}, {}
        for m in features():
            over = by_root(nearest(self.users[m], self.items[m], 2).astype(float))
            self.related[m], related_items[m] = over[0] @ w["item_ids"], over[1] @ w["user_ids"]
        views = [np.concatenate([self.related[m], related_items[m]]) for m in features()]
        z = sum(self.attended(w, views, k) for k in range(len(views))) / len(views)
        ids = np.concatenate([w["user_ids"], w["item_ids"]]) + 0.4 * unit(z)
        content = sum(unit(np.concatenate([self.users[m], self.items[m]])) for m in features())
        final = light(adjacency(), 2) @ ids + 0.6 * content
        self.final = final[:USERS], final[USERS:]

    @staticmethod
    def attended(w: dict[str, Array], views: list[Array], k: int) -> Array:
        """z of modality k."""
        heads = []
        for head in range(HEADS):
            columns = slice(head * DIM // HEADS, (head + 1) * DIM // HEADS)
            query = (views[k] @ w["queries"])[:, columns]
            keys = [(view @ w["keys"])[:, columns] for view in views]
            shares = softmax(np.stack([(query * key).sum(1) for key in keys], 1) / np.sqrt(DIM / HEADS), 1)
            heads.append(sum(shares[:, [n]] * view for n, view in enumerate(views)))
        return np.concatenate(heads, 1) @ w["joined_heads"]

    def generated(self, users: Array) -> Array:
        return np.concatenate([unit(self.users[m][users] @ unit(self.items[m]).T) for m in features()])

    def real(self, users: Array, draws: torch.Generator) -> Array:
        """Gumbel noise on the users' own items, and the cosines of the final vectors."""
        own = interactions()[users] > 0
        noise = np.zeros(own.shape)
        noise[own] = -np.log(-np.log(torch.rand(int(own.sum()), generator=draws).numpy().astype(float)))
        shares = np.where(own, np.exp(0.5 * noise), 0)
        signal = unit(self.final[0][users] @ unit(self.final[1]).T)
        return np.concatenate([unit(shares / shares.sum(1, keepdims=True) + 2.0 * signal)] * 2)


def judged(w: dict[str, Array], rows: Array) -> Array:
    def layer(number: int, x: Array) -> Array:
        x = leaky(x)
        x = (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)
        return x * w[f"critic.scales.{number}"] + w[f"critic.shifts.{number}"]

    hidden = layer(1, affine(w, "critic.second", layer(0, rows @ w["critic.first"] + w["critic.offset"])))
    return 100 * sigmoid(affine(w, "critic.third", hidden))[:, 0]


def slopes(w: dict[str, Array], rows: Array) -> Array:
    """The gradient of the sum of all scores, by differences."""
    found = np.zeros(rows.shape)
    for place in np.ndindex(rows.shape):
        step = np.zeros(rows.shape)
        step[place] = 1e-6
        found[place] = (judged(w, rows + step).sum() - judged(w, rows - step).sum()) / 2e-6
    return found


def test_mmssl() -> None:
    model = mmssl()
    w = number(model)
    expected = ByHand(w)
    users, items = expected.final
    check(model, users, items)

    chosen = np.unique(batch().users)
    draws = generator()
    fake, real = expected.generated(chosen), expected.real(chosen, draws)
    share = torch.rand(len(real), 1, generator=draws).numpy().astype(float)
    lengths = np.linalg.norm(slopes(w, share * real + (1 - share) * fake), axis=1)
    contrast = 0.0
    for related in expected.related.values():
        one, other = unit(related[chosen]), unit(users[chosen])
        between, within = np.exp(one @ other.T / 0.6), np.exp(one @ one.T / 0.6)
        contrast -= np.log(np.diag(between) / (between.sum(1) + within.sum(1) - np.diag(within))).mean()
    content = [*expected.users.values(), *expected.items.values()]
    squares = half_squares(*rows_of_batch(users, items)) + sum((x**2).sum() for x in content) / 2 / ITEMS
    assert losses(model) == pytest.approx(
        {
            "bpr": bpr(users, items),
            "l2": 0.1 * squares,
            "contrast": 0.5 * contrast,
            "adversarial": -0.3 * judged(w, fake).mean(),
            "critic": judged(w, fake).mean() - judged(w, real).mean() + 0.7 * ((lengths - 1) ** 2).mean(),
        },
        rel=1e-3,
    )


def test_the_critic_of_mmssl_and_its_rivals_train_apart() -> None:
    """`critic` moves the critic alone, `adversarial` the content alone, although one step trains both."""
    for name, moved in (("critic", "critic."), ("adversarial", "projections.")):
        model = mmssl()
        number(model)
        terms = model.losses(batch(), features(), generator())
        terms[name].backward()
        trained = {label for label, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
        assert trained
        assert all(label.startswith(moved) for label in trained)


def test_mmssl_has_relations_in_small_catalogs_and_in_every_step() -> None:
    """In the authors' code none are left after two steps of an epoch, nor with fewer than 10,000 items."""
    model = mmssl()
    model.begin_epoch(features(), generator())
    for _ in range(3):
        model.losses(batch(), features(), generator())
        assert model.by_modality is not None
        for each in model.by_modality:
            assert (each.matrix.matrix.values() > 0).sum() == 2 * len(torch.unique(graph().users))


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="heads = 3"):
        MMSSL(graph(), features(), generator(), dim=DIM, heads=3)
