"""Runs from conf to folder, killed and resumed, on a small world in the MMRec layout."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import lmm4rec.experiments.run as run_module
from components import recommender
from lmm4rec.core.errors import CheckpointError, ConfigError, DataError
from lmm4rec.data.splits import Split
from lmm4rec.experiments.compare import ComparedRun, compare
from lmm4rec.experiments.environment import environment
from lmm4rec.experiments.reproduce import reproduce
from lmm4rec.experiments.run import run
from lmm4rec.serving.bundle import Bundle
from worlds import write_camps


@pytest.fixture
def conf(tmp_path: Path) -> dict[str, Any]:
    """VBPR on the camps: two of each user's held-out items choose the model, the third judges it."""
    return write_camps(tmp_path / "camps") | {
        "recommender": {"name": "vbpr", "dim": 8, "content_dim": 8},
        "train": {"epochs": 40, "batch_size": 64, "learning_rate": 0.02, "metric": "recall@5"},
        "evaluate": {"ks": [5, 20]},
    }


Conf = dict[str, Any]


def test_a_run_learns_and_leaves_the_whole_folder(conf: Conf, tmp_path: Path) -> None:
    result = run(conf, out=tmp_path / "run")
    assert result.metrics["test"]["recall@5"] > 0.95
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "experiment.toml", "environment.json", "metrics.json", "per_user.parquet", "history.jsonl", "checkpoint",
        "bundle", "report.html",
    }  # fmt: skip
    cost = result.metrics["cost"]
    assert cost["parameters"] == cost["trainable_parameters"] > 0
    assert {"seconds", "train_seconds", "peak_memory_mb"} <= set(cost)


@pytest.mark.long
def test_per_user_values_average_to_the_metrics(conf: Conf, tmp_path: Path) -> None:
    result = run(conf, out=tmp_path / "run")
    frame = pl.read_parquet(result.folder.per_user)
    for part in ("valid", "test"):
        values = frame.filter(pl.col("part") == part)
        for name, mean in result.metrics[part].items():
            assert values[name].mean() == pytest.approx(mean)


@pytest.mark.long
def test_the_same_seed_gives_the_same_numbers_and_another_does_not(conf: Conf, tmp_path: Path) -> None:
    small = {"train.epochs": 3}
    first, second = (run(conf, small, out=tmp_path / name) for name in "ab")
    other = run(conf, small | {"train.seed": 1}, out=tmp_path / "c")
    assert first.history == second.history
    assert first.metrics["test"] == second.metrics["test"]
    assert first.history != other.history


@pytest.mark.long
def test_the_test_part_is_read_after_the_choice_is_on_record(
    conf: Conf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever touches the test part before `metrics.json` has the choice fails this test."""
    folder = tmp_path / "run"
    read: list[bool] = []
    original = run_module.measure

    def measure(*arguments: Any) -> Any:
        if "test" in arguments[3:]:
            read.append("chosen" in json.loads((folder / "metrics.json").read_text()))
        return original(*arguments)

    monkeypatch.setattr(run_module, "measure", measure)
    run(conf, {"train.epochs": 3}, out=folder)
    assert read == [True]


@pytest.mark.long
def test_validation_never_sees_the_test_part(conf: Conf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the test part emptied of meaning the training history is the same to the last digit."""
    expected = run(conf, {"train.epochs": 3}, out=tmp_path / "a").history
    original: Callable[..., Split] = run_module.DataCache.split

    def scrambled(self: Any, plan: Any) -> Split:
        split = original(self, plan)
        items = (split.test.items + 7) % split.dataset.n_items
        return type(split)(**{**vars(split), "test": type(split.test)(split.test.users, items.astype(np.int32))})

    monkeypatch.setattr(run_module.DataCache, "split", scrambled)
    changed = run(conf, {"train.epochs": 3}, out=tmp_path / "b")
    assert changed.history == expected
    assert changed.metrics["test"]["recall@5"] < 0.5


@pytest.mark.long
def test_protocols_mask_what_they_say(conf: Conf, tmp_path: Path) -> None:
    """Under `mmrec` validation positives stand in the way at test, so the first rank is lost to them."""
    strict = run(conf, out=tmp_path / "a").metrics
    mmrec = run(conf, {"evaluate.protocol": "mmrec"}, out=tmp_path / "b").metrics
    assert strict["valid"] == mmrec["valid"]
    assert strict["test"]["mrr@5"] > mmrec["test"]["mrr@5"]


@pytest.mark.long
def test_a_folder_with_a_run_is_refused_and_a_finished_run_is_read(conf: Conf, tmp_path: Path) -> None:
    first = run(conf, {"train.epochs": 2}, out=tmp_path / "run")
    with pytest.raises(ConfigError, match="already holds a run: add --resume"):
        run(conf, {"train.epochs": 2}, out=tmp_path / "run")
    assert run(conf, {"train.epochs": 2}, out=tmp_path / "run", resume=True).metrics == first.metrics
    assert run(first.folder.experiment, out=tmp_path / "run", resume=True).metrics == first.metrics
    with pytest.raises(ConfigError, match=r"begun with another conf \(train\.epochs was 2, now 1\)"):
        run(conf, {"train.epochs": 1}, out=tmp_path / "run", resume=True)


def test_resuming_nothing_is_an_error(conf: Conf, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing to resume"):
        run(conf, out=tmp_path / "nowhere", resume=True)


@pytest.mark.long
def test_default_folders_are_numbered(conf: Conf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = {"train.epochs": 1}
    folders = [run(conf, small).folder.path for _ in range(2)]
    assert [str(folder) for folder in folders] == ["runs/run", "runs/run-2"]
    shutil.rmtree(folders[0])
    assert str(run(conf, small).folder.path) == "runs/run-3"


@pytest.mark.long
def test_a_reproduction_trains_anew_each_time(conf: Conf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own, with the environment of that training, such as after an upgrade."""
    run(conf, {"train.epochs": 1}, out=tmp_path / "run")
    assert reproduce(tmp_path / "run").changed == {}
    monkeypatch.setattr(run_module, "environment", lambda: {**environment(), "python": "4.0"})
    second = reproduce(tmp_path / "run")
    assert second.out == tmp_path / "run-again-2"
    assert second.changed["python"][1] == "4.0"
    with pytest.raises(ConfigError, match=r"run-again holds a finished run, .* name another folder with -o"):
        reproduce(tmp_path / "run", out=tmp_path / "run-again")
    (second.out / "metrics.json").unlink()  # as an interruption leaves it
    assert reproduce(tmp_path / "run").out == second.out


@pytest.mark.long
def test_tensorboard_gets_every_epoch(conf: Conf, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(conf, {"train.epochs": 2, "train.tensorboard": True}, out=tmp_path / "run")
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


SCRIPT = """
import json, sys
from lmm4rec.experiments.run import run
run(json.loads(sys.argv[1]), out=sys.argv[2], resume=sys.argv[3] == "resume")
"""


@pytest.mark.slow
def test_kill_9_in_training_and_resume_end_with_the_same_numbers(conf: Conf, tmp_path: Path) -> None:
    conf["train"] |= {"epochs": 150, "patience": 0, "evaluate_every": 10, "checkpoint_every_s": 0.0}
    expected = run(conf, out=tmp_path / "whole")
    folder = tmp_path / "killed"
    command = [sys.executable, "-c", SCRIPT, json.dumps(conf), str(folder)]
    process = subprocess.Popen([*command, "new"])
    history = folder / "history.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and (not history.exists() or len(history.read_text().splitlines()) < 20):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    killed_at = len(history.read_text().splitlines())
    assert 20 <= killed_at < 150
    assert not (folder / "metrics.json").exists()
    resumed = run(conf, out=folder, resume=True)
    assert resumed.history == expected.history
    assert resumed.metrics["test"] == expected.metrics["test"]


@pytest.mark.long
def test_a_comparison_goes_on_where_it_stopped(conf: Conf, tmp_path: Path) -> None:
    entries = [
        ComparedRun("Popular", conf, {"recommender.name": "popular"}),
        ComparedRun("VBPR, both", conf, {"train.epochs": 5}),
    ]
    first = compare(entries[:1], tmp_path / "out", title="one")
    stamp = first[0].folder.metrics.stat().st_mtime_ns
    both = compare(entries, tmp_path / "out", title="two")
    assert [result.folder.path.name for result in both] == ["popular", "vbpr-both"]
    assert both[0].folder.metrics.stat().st_mtime_ns == stamp
    page = (tmp_path / "out" / "report.html").read_text()
    assert "VBPR, both" in page
    assert "Popular" in page


@pytest.mark.parametrize(
    ("label", "key", "value", "words"),
    [
        ("b", "data.k_core", 2, r"data\.k_core is 0 in 'a' and 2 in 'b'"),
        ("b", "split.method", "random", r"split\.method is 'labels' in 'a' and 'random' in 'b'"),
        ("b", "evaluate.protocol", "mmrec", r"evaluate\.protocol is 'strict' in 'a' and 'mmrec' in 'b'"),
        ("A", "train.seed", 1, r"'a' and 'A' would both run in .*/out/a, .*: give the conf files names that differ"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_any_work(
    conf: Conf, tmp_path: Path, label: str, key: str, value: object, words: str
) -> None:
    entries = [ComparedRun("a", conf, {}), ComparedRun(label, conf, {key: value})]
    with pytest.raises(ConfigError, match=words):
        compare(entries, tmp_path / "out", title="two")
    assert not (tmp_path / "out").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    "model",
    [recommender(is_personal=False), recommender(is_trained=False, is_personal=True), recommender(uses_content=True)],
)
def test_the_bundle_ranks_as_the_model_did(conf: Conf, tmp_path: Path, model: str) -> None:
    """Loaded from disk and asked by external ids, the bundle gives what the report's lists were made of."""
    run(conf, {"recommender.name": model, "train.epochs": 5}, out=tmp_path / "run")
    bundle = Bundle.load(tmp_path / "run")
    lists = bundle.recommend([0, "35"], k=4)
    assert set(lists) == {"0", "35"}
    known = {bundle.items[item] for item in bundle.seen.items[bundle.seen.users == 35]}
    assert not known & {item.item for item in lists["35"]}
    again = bundle.recommend(["35"], k=30, exclude_seen=False)["35"]
    assert len(again) == 30
    scores = [item.score for item in again]
    assert scores == sorted(scores, reverse=True)


def test_a_run_that_fails_before_it_has_done_anything_leaves_no_folder(tmp_path: Path) -> None:
    conf = {"data": {"name": "table", "path": str(tmp_path / "nowhere")}, "recommender": {"name": "popular"}}
    with pytest.raises(DataError):
        run(conf, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
