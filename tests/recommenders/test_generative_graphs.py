"""MMSSL and DiffMM against their equations in NumPy."""

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
    info_nce,
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
from lmm4rec.features.source import Frozen
from lmm4rec.recommenders.diffmm import DiffMM
from lmm4rec.recommenders.mmssl import MMSSL
from lmm4rec.training.objective import RankingObjective

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


def test_the_critic_is_clipped_apart() -> None:
    model, alone = (RankingObjective(mmssl(adversarial_weight=x), Frozen(features())) for x in (0.3, 0.0))
    names = {id(weight): name for name, weight in model.recommender.named_parameters()}
    rest, critic = ({names.pop(id(weight)) for weight in part} for part in model.clipped_together())
    assert not names
    assert critic == {name for name in rest | critic if name.startswith("critic.")}
    assert len(alone.clipped_together()) == 1


def test_heads_must_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="heads = 3"):
        MMSSL(graph(), features(), generator(), dim=DIM, heads=3)


def diffmm(**hyper: str) -> DiffMM:
    return DiffMM(
        graph(), features(), generator(), dim=DIM, layers=2, generated=2, generated_weight=0.3, residual_weight=0.4,
        steps=3, noise=2.0, denoiser_dim=5, dropout=0.0, signal_weight=0.6, contrast_weight=0.5, temperature=0.7,
        l2_weight=0.1, **hyper,
    )  # type: ignore[arg-type]  # fmt: skip


def hidden(w: dict[str, Array], m: str, x: Array, steps: Array) -> Array:
    angles = steps[:, None] * 10000.0 ** -(np.arange(5) / 5)
    times = np.concatenate([np.cos(angles), np.sin(angles)], 1)
    inside = x @ w[f"denoisers.{m}.inner"] + times @ w[f"denoisers.{m}.time"] + w[f"denoisers.{m}.inner_bias"]
    return np.tanh(inside) @ w[f"denoisers.{m}.outer"].T + w[f"denoisers.{m}.outer_bias"]


def with_loops(a: Array) -> Array:
    both = np.block([[np.eye(USERS), a], [a.T, np.eye(ITEMS)]])
    scale = 1 / np.sqrt(both.sum(1))
    return scale[:, None] * both * scale


@pytest.mark.parametrize("anchor", ["modality", "main"])
def test_diffmm(anchor: str) -> None:
    model = diffmm(anchor=anchor)
    w = number(model)
    variance = np.linspace(2e-4, 0.04, 3)
    bar = np.cumprod([1 - 1e-4, (1 - variance[1]) / (1 - variance[0]), (1 - variance[2]) / (1 - variance[1])])
    before = np.array([1, *bar[:-1]])
    alpha = bar / before
    graphs = {}
    for m in features():
        x = interactions()
        for t in (2, 1, 0):
            predicted = hidden(w, m, x, np.full(USERS, t))
            x = ((1 - alpha[t]) * np.sqrt(before[t]) * predicted + (1 - before[t]) * np.sqrt(alpha[t]) * x) / (
                1 - bar[t]
            )
        graphs[m] = with_loops((x >= np.sort(x, axis=1)[:, -2][:, None]).astype(float))
    a = with_loops(interactions())
    users, ids = w["nodes"][:USERS], w["nodes"][USERS:]
    shares = softmax(w["importance"], 0)
    fused, views = 0.0, []
    for share, m in zip(shares, features(), strict=True):
        f = unit(projected(w, m))
        first = a @ np.concatenate([users, f])
        second = a @ np.concatenate([first[:USERS], ids])
        fused = fused + share * (first + second + 0.3 * graphs[m] @ w["nodes"])
        views.append(graphs[m] @ np.concatenate([users, f]))
    powers = sum(np.linalg.matrix_power(a, k) for k in range(3))
    final = powers @ fused + 0.4 * unit(fused)
    check(model, final[:USERS], final[USERS:])

    views = [powers @ view for view in views]
    u, i = np.unique(batch().users), np.unique(batch().positives) + USERS
    pairs = [(final, view) for view in views] if anchor == "main" else [tuple(views)]
    assert losses(model) == pytest.approx(
        {
            "bpr": bpr(final[:USERS], final[USERS:]),
            "l2": 0.1 * (w["nodes"] ** 2).sum(),
            "denoise": denoise(w, bar),
            "contrast": 0.5 * sum(info_nce(one[rows], other[rows], 0.7) for one, other in pairs for rows in (u, i)),
        },
        rel=1e-4,
    )


def denoise(w: dict[str, Array], bar: Array) -> float:
    """The losses of the denoisers, for the users, steps and noise that the seed draws: 6 users · 3 / 8 edges are 3."""
    draws, total, snr = generator(), 0.0, bar / (1 - bar)
    users = torch.randperm(USERS, generator=draws)[:3].numpy()
    start = interactions()[users]
    for m in features():
        t = torch.randint(3, (3,), generator=draws).numpy()
        noise = torch.randn(3, ITEMS, generator=draws).numpy().astype(float)
        noisy = np.sqrt(bar[t])[:, None] * start + np.sqrt(1 - bar[t])[:, None] * noise
        predicted = hidden(w, m, noisy, t)
        weight = np.where(t == 0, 1.0, snr[t - 1] - snr[t])
        signal = predicted @ projected(w, m) - start @ w["nodes"][USERS:]
        total += (weight * ((predicted - start) ** 2).mean(1) + 0.6 * (signal**2).mean(1)).mean()
    return float(total)


def test_denoisers_of_diffmm_train_apart_from_the_vectors() -> None:
    for name in ("denoise", "contrast"):
        model = diffmm()
        number(model)
        model.losses(batch(), features(), generator())[name].backward()
        trained = {label for label, weight in model.named_parameters() if weight.grad is not None and weight.grad.any()}
        assert trained
        assert all(label.startswith("denoisers.") == (name == "denoise") for label in trained)


def test_generated_graphs_are_part_of_the_state() -> None:
    model, again = diffmm(), diffmm()
    number(model)
    model.begin_epoch(features(), generator())
    assert (model.edges >= 0).all()
    assert (again.edges < 0).all()
    again.load_state_dict(model.state_dict())
    for one, other in zip(model._graphs(), again._graphs(), strict=True):
        assert torch.equal(one.matrix.to_dense(), other.matrix.to_dense())
