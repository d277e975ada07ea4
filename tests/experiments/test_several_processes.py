"""A run by `--processes`, with tables in shards, ends as one by a single process, also where a process is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lmm4rec.core.errors import ConfigError
from lmm4rec.distributed import process_group
from lmm4rec.experiments.build import sharding as build_sharding
from lmm4rec.experiments.build.sharding import require_shardable, shards_tables, shares_training
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import Plan, make_plan
from lmm4rec.experiments.run import run

CONF = """
[data]
name = "toyshop"
items = 90
users = 150
interactions = 3000
[encoder]
name = "color"
[recommender]
name = "freedom"
dim = 8
[train]
epochs = 12
batch_size = 256
patience = 0
checkpoint_every_s = 0.0
shard = "rows"
"""


def lines_of(file: Path) -> int:
    return len(file.read_text().splitlines()) if file.exists() else 0


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_it_goes_on_and_ends_with_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("some.conf").write_text(CONF)
    expected = run("some.conf", out="one")
    command = [sys.executable, "-m", "lmm4rec.cli.app", "run", "some.conf", "-o", "three", "--processes", "3"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    with Path("log").open("wb") as log:
        launcher = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        deadline = time.monotonic() + 200
        while lines_of(Path("three/history.jsonl")) < 4 and launcher.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert launcher.poll() is None, "it ended before a process could be killed"
        os.kill(children_of(launcher.pid)[2], signal.SIGKILL)
        assert launcher.wait(timeout=200) == 0
    text = Path("log").read_text()
    assert "process 3 of 3 was killed by SIGKILL: all processes start again from the last checkpoint" in text
    assert "Traceback" not in text
    assert text.count("report ") == 1
    found = run("some.conf", out="three", resume=True)
    assert found.metrics["test"] == expected.metrics["test"]
    for one, other in zip(expected.history, found.history, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-5)
    for part in ("users", "items"):
        one, other = (getattr(result.bundle().scorer, part) for result in (expected, found))
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-6)
    continued = run("some.conf", {"train.start_from": "three"}, out="continued")  # its weights are in parts
    assert continued.history[0]["loss"] < expected.history[0]["loss"]


FINETUNED = """
[data]
name = "toyshop"
items = 60
[encoder]
name = "clip"
checkpoint = "tiny"
[recommender]
name = "vbpr"
[features]
train = "finetuned"
[features.finetune]
epochs = 2
batch_size = 16
learning_rate = 1e-3
crop = 0.0
flip = false
precision = "float32"
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_fine_tuning_by_two_processes_is_that_of_one(tmp_path: Path) -> None:
    (tmp_path / "some.conf").write_text(FINETUNED)
    losses = {}
    for processes in (1, 2):
        own = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
        own |= {"LMM4REC_CACHE": str(tmp_path / f"cache-{processes}")}

        def printed(*arguments: str, own: dict[str, str] = own, processes: int = processes) -> str:
            command = [sys.executable, "-m", "lmm4rec.cli.app", *arguments, "--processes", str(processes)]
            return subprocess.run(
                command, env=os.environ | own, cwd=tmp_path, capture_output=True, text=True, check=True
            ).stdout

        assert printed("finetune", "some.conf", "-o", f"tuned-{processes}").count("tuned ") == 1
        training = json.loads((tmp_path / f"tuned-{processes}" / "training.json").read_text())
        losses[processes] = [row["loss"] for row in training["epochs"]]
        assert printed("run", "some.conf", "-o", f"run-{processes}", "-s", "train.epochs=1").count("report ") == 1
    assert len(losses[1]) == 2
    assert losses[2] == pytest.approx(losses[1], rel=1e-3)


def plan(*, shard: str = "auto", name: str = "bpr", device: str = "auto") -> Plan:
    tables = {"data": {"name": "toyshop"}, "recommender": {"name": name}}
    return make_plan(load_spec({**tables, "train": {"shard": shard, "device": device}}))


@pytest.mark.parametrize(("name", "processes"), [("bpr", True), ("ease", False), ("ials", False), ("popular", False)])
def test_models_that_are_solved_use_one_process(name: str, processes: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert shares_training(plan(name=name), 2) == processes
    assert ("by one process: --processes 2 is of no effect" in caplog.text) != processes


def test_bad_input_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    require_shardable(plan(shard="rows"))
    with pytest.raises(ConfigError, match=r'LayerGCN reads .* cannot be sharded: take shard = "no"'):
        require_shardable(plan(shard="rows", name="layergcn"))
    with pytest.raises(ConfigError, match="shard"):
        plan(shard="columns")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ConfigError, match="WORLD_SIZE is 4: a program such as torchrun has started"):
        shares_training(plan(), 2)
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setattr(build_sharding, "choose_device", lambda _: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert shares_training(plan(), 2)
    with pytest.raises(ConfigError, match="--processes 3 is more than the 2 GPUs of this machine"):
        shares_training(plan(), 3)


def test_auto_shards_where_the_tables_of_all_processes_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """64 numbers for 1,000 rows, with two averages, are 0.77 MB a process; the limit is a quarter of the memory."""
    split: Any = SimpleNamespace(dataset=SimpleNamespace(n_users=600, n_items=400))
    assert not shards_tables(plan(shard="rows"), split)  # one process
    monkeypatch.setattr(process_group, "world_size", lambda: 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(build_sharding, "machine_memory_gb", lambda: 0.0061)
    assert shards_tables(plan(), split)
    monkeypatch.setattr(build_sharding, "machine_memory_gb", lambda: 0.0062)
    assert not shards_tables(plan(), split)
    assert shards_tables(plan(shard="rows"), split)
    assert not shards_tables(plan(name="layergcn"), split)
    monkeypatch.setattr(build_sharding, "machine_memory_gb", lambda: 0.001)
    assert not shards_tables(plan(shard="no"), split)
