"""The estimate of a training: what it says beside its seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmm4rec.core.types import Features
from lmm4rec.data.sources import toyshop
from lmm4rec.data.splits import Split, split
from lmm4rec.experiments.build.recommenders import make_sampler, note_of_small_batches
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.estimate.estimate import Estimate
from lmm4rec.experiments.estimate.study import StudyEstimates
from lmm4rec.experiments.estimate.training import estimate_training
from lmm4rec.experiments.plan import Plan, make_plan
from lmm4rec.experiments.run import run
from lmm4rec.experiments.study.cells import make_cells
from lmm4rec.experiments.study.spec import load_study
from lmm4rec.recommenders.bprsgd import BPRSGD
from lmm4rec.recommenders.ials import IALS
from lmm4rec.training import sampler
from lmm4rec.training.sampler import TripleSampler


def test_it_says_that_a_first_epoch_compiles(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = split(toyshop.load(users=20, items=20, interactions=150), "random", valid=0.2, test=0.2, seed=0)
    tables = {"data": {"name": "toyshop"}, "recommender": {"name": "ials", "dim": 4}, "train": {"epochs": 3}}
    plan = make_plan(load_spec(tables))
    assert estimate_training(plan, shop, {}).details == "3 epochs of one sweep"
    monkeypatch.setattr(IALS, "is_compiled", BPRSGD.is_compiled)
    assert estimate_training(plan, shop, {}).details == (
        "3 epochs of one sweep; a first one that compiles takes some seconds more"
    )


@pytest.mark.parametrize(
    ("tables", "expected"),
    [
        ({"recommender": {"name": "lightgcn"}}, 100),
        ({"recommender": {"name": "bpr"}}, 25),
        ({"recommender": {"name": "lightgcn"}, "train": {"batch_size": 7}}, 7),
        ({"recommender": {"name": "lightgcn"}, "train": {"batch_size": 26}}, 26),
        ({"recommender": {"name": "bpr"}, "train": {"batch_size": 2}}, 2),
        (
            {
                "recommender": {"name": "lattice"},
                "encoder": {"name": "clip", "checkpoint": "here"},
                "features": {"train": "frozen"},
            },
            100,
        ),
        (
            {
                "recommender": {"name": "lattice"},
                "encoder": {"name": "clip", "checkpoint": "here"},
                "features": {"train": "end2end"},
            },
            25,
        ),
    ],
)
def test_batches_are_largest_where_each_costs_the_whole_graph(
    tables: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An epoch of 2 batches at least, of 8 at most: a graph model of frozen features has few of them."""
    shop = split(toyshop.load(users=40, items=20, interactions=400), "random", valid=0.2, test=0.3, seed=0)
    for name, value in {"SMALLEST_BATCH": 2, "MOST_BATCHES": 8, "FEWEST_BATCHES": 2}.items():
        monkeypatch.setattr(sampler, name, value)
    assert len(shop.train) == 200
    plan = make_plan(load_spec({"data": {"name": "toyshop"}} | tables))
    batches = make_sampler(plan, shop)
    assert isinstance(batches, TripleSampler)
    assert batches.batch_size == expected
    note = 'train.batch_size = 7 makes 29 batches an epoch, "auto" would make 2; each one reads the whole graph'
    assert note_of_small_batches(plan, shop, batches) == (f"{note}, so fewer are faster" if expected == 7 else "")


@pytest.mark.long
def test_a_run_says_that_its_batches_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sampler, "SMALLEST_BATCH", 1000)
    conf = {"data": {"name": "toyshop", "users": 40, "items": 20, "interactions": 400}, "train": {"epochs": 1}}
    for name in ("lightgcn", "bpr"):
        caplog.clear()
        with caplog.at_level("INFO"):
            run(conf | {"recommender": {"name": name}}, {"train.batch_size": 100}, out=tmp_path / name)
        assert ("train.batch_size = 100 makes" in caplog.text) == (name == "lightgcn")


def test_cells_of_a_study_share_a_trial_where_batches_and_modalities_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trials: list[tuple[int, list[str]]] = []

    def trial(plan: Plan, shop: Split, features: Features) -> Estimate:
        trials.append((plan.train.table["batch_size"], list(features)))
        return Estimate("training")

    monkeypatch.setattr("lmm4rec.experiments.estimate.study.estimate_training", trial)
    conf = {
        "data": {"name": "toyshop", "users": 20, "items": 20, "interactions": 150},
        "encoder": {"name": "clip", "checkpoint": "here"},
        "recommender": {"name": "vbpr"},
        "axes": {
            "seed": [0, 1],
            "batches": {f"b{size}": {"train.batch_size": size} for size in (8, 64)},
            "modalities": ["both", "image"],
        },
    }
    spec = load_study(conf)
    estimates = StudyEstimates(spec, {})
    for cell in make_cells(spec):
        estimates.cell(cell)
    assert trials == [(size, names) for size in (8, 64) for names in (["image", "text"], ["image"])]
