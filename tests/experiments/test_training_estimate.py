"""The estimate of a training: what it says beside its seconds."""

from __future__ import annotations

import pytest

from lmm4rec.data.sources import toyshop
from lmm4rec.data.splits import split
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.estimate.training import estimate_training
from lmm4rec.experiments.plan import make_plan
from lmm4rec.recommenders.bprsgd import BPRSGD
from lmm4rec.recommenders.ials import IALS


def test_it_says_that_a_first_epoch_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = split(toyshop.load(users=20, items=20, interactions=150), "random", valid=0.2, test=0.2, seed=0)
    tables = {"data": {"name": "toyshop"}, "recommender": {"name": "ials", "dim": 4}, "train": {"epochs": 3}}
    plan = make_plan(load_spec(tables))
    assert estimate_training(plan, shop, {}).details == "3 epochs of one sweep"
    monkeypatch.setattr(IALS, "is_compiled", BPRSGD.is_compiled)
    assert estimate_training(plan, shop, {}).details == (
        "3 epochs of one sweep; a first one that compiles takes some seconds more"
    )
