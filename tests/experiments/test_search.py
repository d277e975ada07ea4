"""Hyper-parameter search: honest about test, deterministic, killable; most of it on a made-up objective."""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lmm4rec.experiments.search as search_package
from lmm4rec.core.errors import ConfigError, DataError, TrainingError
from lmm4rec.core.files import read_json, write_json
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.data.splits import SealedPart, Split
from lmm4rec.distributed.pool import Died, Outcome, SerialPool, WorkerOptions, open_pool
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.run import run
from lmm4rec.experiments.search import trials as trials_module
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.search.space import grid
from lmm4rec.experiments.search.tune import begin_search, read_tuned, split_conf, tune

pytest.importorskip("optuna")

CONF: dict[str, Any] = {
    "title": "tiny",
    "data": {"name": "toyshop", "users": 40, "items": 40, "interactions": 400},
    "recommender": {"name": "bpr", "dim": 4},
    "train": {"epochs": 2, "batch_size": 128},
}
L2 = {"recommender.l2_weight": {"low": 1e-5, "high": 1e-1, "log": True}}


def options(**keys: Any) -> SearchOptions:
    return SearchOptions.of({"budget": 4, "pruner": "none", "startup": 2, "space": L2, **keys})


def hill(plan: Plan, place: Path, data: DataCache, callbacks: Sequence[Any] = ()) -> float:
    """Highest, 0, at l2_weight = 0.01."""
    return -((math.log10(plan.recommender.table["l2_weight"]) + 2) ** 2)


@pytest.fixture
def objective(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    def use(function: Any) -> None:
        monkeypatch.setattr(trials_module, "validate_setting", function)

    return use


def tried(folder: Path) -> list[tuple[Any, Any]]:
    return [(row["setting"], row["value"]) for row in read_json(folder / "tuned.json")["trials"]]


@pytest.mark.long
def test_the_test_part_is_sealed_wherever_settings_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What training gets has no test part; and with the test part replaced the search is the same to the last digit."""
    seen: list[Split] = []
    original = trials_module.train

    def train(plan: Any, folder: Any, objective: Any, split: Split, *rest: Any, **named: Any) -> Any:
        seen.append(split)
        return original(plan, folder, objective, split, *rest, **named)

    monkeypatch.setattr(trials_module, "train", train)
    tune(CONF, options(budget=1), tmp_path / "a")
    assert len(seen) == 1
    assert all(type(split.test) is SealedPart for split in seen)
    with pytest.raises(DataError, match="the test part is sealed"):
        _ = seen[0].test.users
    whole = DataCache.split

    def scrambled(self: DataCache, plan: Plan) -> Split:
        split = whole(self, plan)
        items = ((split.test.items + 7) % split.dataset.n_items).astype(np.int32)
        return Split(**{**vars(split), "test": type(split.test)(split.test.users, items)})

    monkeypatch.setattr(DataCache, "split", scrambled)
    tune(CONF, options(budget=1), tmp_path / "b")
    assert tried(tmp_path / "a") == tried(tmp_path / "b")


def test_no_line_of_the_search_names_the_test_part() -> None:
    """Nor does it import what reads it: `experiments.run`."""
    for path in Path(search_package.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.Attribute) and node.attr == "test"), path
            assert not (isinstance(node, ast.Constant) and node.value == "test"), path
            assert not (isinstance(node, ast.ImportFrom) and node.module == "lmm4rec.experiments.run"), path


@pytest.mark.long
def test_the_best_conf_runs_and_reaches_what_the_search_said(tmp_path: Path) -> None:
    found = tune(CONF, options(budget=3), tmp_path / "search")
    assert found.trials == 3
    assert found == read_tuned(tmp_path / "search")
    result = run(found.conf, out=tmp_path / "run")
    assert result.plan.recommender.table["l2_weight"] == found.best["recommender.l2_weight"]
    assert result.metrics["valid"]["recall@20"] == pytest.approx(found.value)
    assert not (tmp_path / "search" / "trials").exists() or not list((tmp_path / "search" / "trials").iterdir())


@pytest.mark.long
def test_models_that_only_count_are_judged_too(tmp_path: Path) -> None:
    conf = CONF | {"recommender": {"name": "itemknn"}}
    found = tune(conf, options(space={"recommender.neighbors": [3, 20]}, sampler="grid"), tmp_path)
    result = run(found.conf, out=tmp_path / "run")
    assert result.metrics["valid"]["recall@20"] == pytest.approx(found.value)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_killed_anywhere_it_ends_with_the_same_trials(
    tmp_path: Path, objective: Callable[[Any], None], sampler: str
) -> None:
    wanted = options(budget=4, sampler=sampler)
    objective(hill)
    expected = tune(CONF, wanted, tmp_path / "whole")
    calls = 0

    def dying(*arguments: Any) -> float:
        nonlocal calls
        calls += 1
        if calls in (2, 4):
            raise KeyboardInterrupt
        return hill(*arguments)

    objective(dying)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            tune(CONF, wanted, tmp_path / "killed")
    assert read_tuned(tmp_path / "killed") is None
    resumed = tune(CONF, wanted, tmp_path / "killed")
    assert tried(tmp_path / "killed") == tried(tmp_path / "whole")
    assert (resumed.best, resumed.value, resumed.trials) == (expected.best, expected.value, 4)


@pytest.mark.slow
def test_tpe_climbs(tmp_path: Path, objective: Callable[[Any], None]) -> None:
    objective(hill)
    found = tune(CONF, options(budget=15, startup=5), tmp_path)
    assert found.best["recommender.l2_weight"] == pytest.approx(0.01, rel=0.7)


@pytest.mark.long
def test_a_grid_is_tried_whole_in_order(tmp_path: Path, objective: Callable[[Any], None]) -> None:
    space = {"recommender.l2_weight": [1e-3, 1e-2], "recommender.dim": {"low": 4, "high": 8, "step": 2}}
    objective(hill)
    found = tune(CONF, options(space=space, sampler="grid", budget=9), tmp_path)
    assert [setting for setting, _ in tried(tmp_path)] == [
        {"recommender.l2_weight": weight, "recommender.dim": dim} for weight in (1e-3, 1e-2) for dim in (4, 6, 8)
    ]
    assert found.best == {"recommender.l2_weight": 1e-2, "recommender.dim": 4}  # of equals the first
    with pytest.raises(ConfigError, match="the grid has 6 settings, the budget is 5"):
        tune(CONF, options(space=space, sampler="grid", budget=5), tmp_path / "small")
    with pytest.raises(ConfigError, match=r"a grid needs the values of recommender\.l2_weight listed"):
        grid(L2)


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("workers", [0, 2])
def test_a_pool_tries_the_same_grid(tmp_path: Path, workers: int) -> None:
    wanted = options(sampler="grid", space={"recommender.dim": [2, 4], "recommender.l2_weight": [1e-3, 1e-1]})
    alone = tune(CONF, wanted, tmp_path / "alone")
    with open_pool(workers) as pool:
        together = tune(CONF, wanted, tmp_path / "pool", pool=pool)
        assert tune(CONF, wanted, tmp_path / "pool", pool=pool) == together  # nothing is left to try
    assert (dict(together.best), together.value, together.trials) == (dict(alone.best), alone.value, 4)
    assert sorted(map(str, tried(tmp_path / "pool"))) == sorted(map(str, tried(tmp_path / "alone")))


class LastFirst(SerialPool):
    """Two workers, of which the one that began last ends first."""

    slots = 2

    def wait(self) -> Outcome | Died:
        self._jobs.reverse()
        return super().wait()


@pytest.mark.long
@pytest.mark.parametrize("sampler", ["grid", "random"])
def test_a_pool_that_was_interrupted_goes_on_with_the_settings_that_are_open(
    tmp_path: Path, objective: Callable[[Any], None], sampler: str
) -> None:
    objective(hill)
    space = {"recommender.l2_weight": [1e-3, 1e-2, 1e-1, 1.0]} if sampler == "grid" else L2
    wanted = options(sampler=sampler, budget=4, space=space)
    tune(CONF, wanted, tmp_path / "whole")
    done: list[int] = []

    def once(*arguments: Any) -> float:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append(1)
        return hill(*arguments)

    objective(once)
    with LastFirst(WorkerOptions()) as pool, pytest.raises(KeyboardInterrupt):
        tune(CONF, wanted, tmp_path / "killed", pool=pool)
    objective(hill)
    with SerialPool(WorkerOptions()) as pool:
        tune(CONF, wanted, tmp_path / "killed", pool=pool)
    assert sorted(map(str, tried(tmp_path / "killed"))) == sorted(map(str, tried(tmp_path / "whole")))


class Deadly(SerialPool):
    """A pool whose first worker dies, as often as its job may be tried."""

    def wait(self) -> Outcome | Died:
        job = self._jobs[0]
        return Died(self._jobs.pop(0), "ended with signal 9") if job.name == "0" else super().wait()


@pytest.mark.long
def test_a_setting_whose_workers_die_counts_and_does_not_stop_the_search(tmp_path: Path) -> None:
    wanted = options(sampler="grid", space={"recommender.dim": [2, 4]})
    with Deadly(WorkerOptions(retries=1)) as pool:
        found = tune(CONF, wanted, tmp_path / "search", pool=pool)
    assert (found.best, found.trials) == ({"recommender.dim": 4}, 2)
    failed = read_json(tmp_path / "search" / "tuned.json")["trials"][0]
    assert (failed["setting"], failed["error"]) == (
        {"recommender.dim": 2}, "each of 2 worker processes ended with signal 9",
    )  # fmt: skip


@pytest.mark.long
def test_the_median_rule_ends_what_lags_and_it_counts(tmp_path: Path, objective: Callable[[Any], None]) -> None:
    """The first two reach 0.5; the others are behind from the first look on."""
    epochs: list[int] = []

    def slow(plan: Plan, place: Path, data: DataCache, callbacks: Sequence[Any] = ()) -> float:
        value = 0.5 if len(epochs) < 2 else 0.1
        epochs.append(0)
        for epoch in range(1, 6):
            epochs[-1] = epoch
            for callback in callbacks:
                callback.on_epoch_end({"epoch": epoch, "recall@20": value})
        return value

    objective(slow)
    found = tune(CONF, options(budget=4, pruner="median", startup=2, warmup=1), tmp_path)
    assert epochs[:2] == [5, 5]
    assert all(epoch < 5 for epoch in epochs[2:])
    states = [row["state"] for row in read_json(tmp_path / "tuned.json")["trials"]]
    assert states == ["complete", "complete", "pruned", "pruned"]
    assert found.trials == 4


@pytest.mark.long
def test_a_setting_that_diverges_counts_and_does_not_stop_the_search(
    tmp_path: Path, objective: Callable[[Any], None]
) -> None:
    calls = 0

    def sometimes(*arguments: Any) -> float:
        nonlocal calls
        calls += 1
        if calls != 2:
            raise TrainingError("the loss is not finite")
        return hill(*arguments)

    objective(sometimes)
    found = tune(CONF, options(budget=3), tmp_path / "a")
    assert (calls, found.trials) == (3, 3)
    calls = 5
    with pytest.raises(TrainingError, match="none of 3 settings could be validated; the last one: the loss is not"):
        tune(CONF, options(budget=3), tmp_path / "b")


@pytest.mark.long
def test_a_folder_holds_one_search(tmp_path: Path, objective: Callable[[Any], None]) -> None:
    objective(hill)
    tune(CONF, options(budget=2), tmp_path)
    assert tune(CONF, options(budget=3), tmp_path).trials == 3  # more of the same goes on
    with pytest.raises(ConfigError, match="holds a search of another conf or space"):
        tune(CONF | {"split": {"seed": 1}}, options(budget=3), tmp_path)


@pytest.mark.long
def test_one_process_at_a_time_searches_in_a_folder(tmp_path: Path, objective: Callable[[Any], None]) -> None:
    said: list[str] = []

    def crowded(*arguments: Any) -> float:
        with pytest.raises(ConfigError) as refused:
            tune(CONF, options(budget=2), tmp_path)
        said.append(str(refused.value))
        return hill(*arguments)

    objective(crowded)
    assert tune(CONF, options(budget=2), tmp_path).trials == 2
    assert len(said) == 2
    assert re.search(r"is in use: process \d+ on .* searches in it; wait until it ends, or name another", said[0])


@pytest.mark.long
def test_searches_of_one_database_share_no_trials(tmp_path: Path, objective: Callable[[Any], None]) -> None:
    """Neither those of other seeds and samplers, nor two of the same; a folder that goes on finds its own."""
    objective(hill)
    storage = f"sqlite:///{tmp_path / 'shared.db'}"
    first = options(budget=2, storage=storage)
    others = {
        "b": options(budget=2, storage=storage, seed=7),
        "c": options(budget=2, storage=storage, sampler="random"),
    }
    tune(CONF, first, tmp_path / "a")
    for name, wanted in {**others, "d": first}.items():
        tune(CONF, wanted, tmp_path / name)
        tune(CONF, dataclasses.replace(wanted, storage=""), tmp_path / f"{name}-alone")
        assert tried(tmp_path / name) == tried(tmp_path / f"{name}-alone")
    assert tune(CONF, options(budget=3, storage=storage), tmp_path / "a").trials == 3
    assert tried(tmp_path / "a")[:2] == tried(tmp_path / "d") != tried(tmp_path / "b")


def test_a_search_of_an_earlier_version_goes_on_under_its_name(tmp_path: Path) -> None:
    wanted = options(budget=2)
    begin_search(tmp_path, CONF, wanted)
    record = read_json(tmp_path / "search.json")
    write_json(tmp_path / "search.json", {key: value for key, value in record.items() if key != "id"})
    assert begin_search(tmp_path, CONF, wanted) == fingerprint(CONF, dict(wanted.space))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"low": 1, "high": 1}, "low must be a number below high"),
        ({"low": 0, "high": 1, "log": True}, "log = true needs low above 0"),
        ({"low": 1}, "must be a list of values or { low"),
        ([], "must be a list of values or { low"),
        ({"low": 1e-3, "high": 1e-1, "step": 0}, "step must be a number above 0"),
        ({"low": -1.0, "high": 1.0}, "recommender.l2_weight = -1.0 does not fit"),
    ],
)
def test_wrong_spaces_say_what_is_wrong(tmp_path: Path, wanted: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tune(CONF, options(space={"recommender.l2_weight": wanted}), tmp_path)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("train.metric", ["recall@20", "recall@50"]),
        ("split.seed", [0, 1]),
        ("data.k_core", [0, 2]),
        ("evaluate.protocol", ["strict", "mmrec"]),
    ],
)
def test_keys_by_which_settings_are_judged_are_no_part_of_a_space(tmp_path: Path, key: str, values: list[Any]) -> None:
    with pytest.raises(ConfigError, match=rf"names {key}, with which settings would be judged by different data"):
        tune(CONF, options(space={key: values}), tmp_path)


def test_a_conf_without_a_search_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"has no \[search\] table"):
        split_conf(CONF)
    with pytest.raises(ConfigError, match=r"\[search\] has no space"):
        split_conf(CONF | {"search": {"budget": 2}})
