"""LayerGCN and SelfCF against the equations in a few lines of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch
from small import N, P, U

from lmm4rec.recommenders.layergcn import LayerGCN
from lmm4rec.recommenders.selfcf import SelfCF


def test_layergcn() -> None:
    model = LayerGCN(small.graph(), {}, small.generator(), dim=4, layers=3, dropout=0.0, l2_weight=0.1)
    ego = small.number(model)["nodes"]
    current, total = ego, np.zeros_like(ego)
    for _ in range(3):
        current = small.normalized() @ current
        current = (small.unit(current) * small.unit(ego)).sum(1, keepdims=True) * current
        total += current
    found = model.embed({})
    small.close(torch.cat([found.users, found.items]), total)
    losses = small.losses(model)
    assert losses["bpr"] == pytest.approx(small.bpr(*small.sides(total)), rel=1e-5)
    rows = [ego[U], ego[P + small.USERS], ego[N + small.USERS]]
    assert losses["l2"] == pytest.approx(0.1 * sum((x**2).sum() for x in rows) / 2 / len(U), rel=1e-5)


def test_layergcn_trains_on_a_pruned_graph_and_ranks_over_all_of_it() -> None:
    model = LayerGCN(small.graph(), {}, small.generator(), dim=4, dropout=0.5)
    before = model.embed({}).scores(torch.arange(small.USERS))
    model.begin_epoch({}, small.generator())
    assert len(model.pruned.matrix.values()) == len(model.adjacency.matrix.values()) // 2
    assert torch.equal(model.embed({}).scores(torch.arange(small.USERS)), before)


def test_selfcf() -> None:
    model = SelfCF(small.graph(), {}, small.generator(), dim=4, layers=2, dropout=0.0, l2_weight=0.1)
    weights = small.number(model)
    users, items = small.sides(small.light(small.adjacency(), 2) @ weights["nodes"])
    f = [side @ weights["predictor.weight"] + weights["predictor.offset"] for side in (users, items)]
    found = model.embed({}).scores(torch.arange(small.USERS))
    small.close(found, f[0] @ items.T + users @ f[1].T)
    losses = small.losses(model)
    cosines = [(small.unit(f[0][U]) * small.unit(items[P])).sum(1), (small.unit(f[1][P]) * small.unit(users[U])).sum(1)]
    assert losses["predict"] == pytest.approx(1 - np.mean(cosines), rel=1e-5)
    squares = (users[U] ** 2).sum() + (items[P] ** 2).sum()
    assert losses["l2"] == pytest.approx(0.1 * squares / 2 / len(U), rel=1e-5)


def test_selfcf_gives_targets_no_gradient() -> None:
    """Else users and items would collapse to one vector."""
    model = SelfCF(small.graph(), {}, small.generator(), dim=4, dropout=0.0)
    vectors = torch.randn(small.USERS + small.ITEMS, 4, generator=small.generator())
    with torch.no_grad():
        model.nodes.copy_(vectors)
        model.predictor.weight.zero_()  # nothing passes through the predictor
        model.predictor.offset.fill_(1.0)
    model.losses(small.batch(), {}, small.generator())["predict"].backward()
    assert (model.nodes.grad == 0).all()
