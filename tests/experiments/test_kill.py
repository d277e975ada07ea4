"""Killed with SIGKILL while it encodes, and again while it trains, a run ends with the numbers of one left alone."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lmm4rec.core.files import read_json
from lmm4rec.experiments.run import run
from process_kills import kill_when

CONF: dict[str, Any] = {
    "data": {"name": "toyshop", "items": 2000, "users": 300, "interactions": 6000},
    "encoder": {"name": "paired", "image": {"name": "color"}, "text": {"name": "words"}},
    "recommender": {"name": "vbpr", "dim": 8, "content_dim": 8},
    "train": {"epochs": 30, "batch_size": 256, "patience": 0, "checkpoint_every_s": 0.0},
}
SCRIPT = """
import json, sys
from lmm4rec.experiments.run import run
run(json.loads(sys.argv[1]), out=sys.argv[2], resume=sys.argv[3] == "resume")
"""


def run_until(ready: Callable[[], bool], folder: Path, mode: str, conf: dict[str, Any] = CONF) -> None:
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, json.dumps(conf), str(folder), mode])
    kill_when(ready, process, seconds=90)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_twice_it_ends_with_the_same_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache-whole"))
    expected = run(CONF, out=tmp_path / "whole")
    cache, folder = tmp_path / "cache-killed", tmp_path / "killed"
    monkeypatch.setenv("LMM4REC_CACHE", str(cache))
    run_until(lambda: len(list(cache.glob("features/*/part-*"))) >= 2, folder, "new")
    assert not list(cache.glob("features/*/entry.json"))
    history = folder / "history.jsonl"
    run_until(lambda: history.exists() and len(history.read_text().splitlines()) >= 5, folder, "resume")
    before = read_json(folder / "cost.json")["total"]
    resumed = run(CONF, out=folder, resume=True)
    assert resumed.history == expected.history
    assert resumed.metrics["test"] == expected.metrics["test"]
    assert resumed.metrics["cost"]["seconds"] > before > 0
    assert not (folder / "cost.json").exists()


END2END: dict[str, Any] = {
    "data": {"name": "toyshop", "items": 60, "users": 50, "interactions": 700},
    "encoder": {"name": "vlmo", "checkpoint": "tiny", "drop_path": 0.1},
    "features": {"train": "end2end", "end2end": {"every": 3, "max_items": 40, "warm_start": 2, "learning_rate": 1e-4}},
    "recommender": {"name": "lattice", "dim": 8},
    "train": {"epochs": 8, "batch_size": 128, "patience": 0, "checkpoint_every_s": 0.0},
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("epochs", [1, 4])
def test_killed_while_the_encoder_warms_up_or_trains_it_ends_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int
) -> None:
    pytest.importorskip("tokenizers")
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    expected = run(END2END, out=tmp_path / "whole")
    folder = tmp_path / "killed"
    history = folder / "history.jsonl"
    run_until(lambda: history.exists() and len(history.read_text().splitlines()) >= epochs, folder, "new", END2END)
    assert not (folder / "metrics.json").exists()
    resumed = run(END2END, out=folder, resume=True)
    assert resumed.history == expected.history
    assert resumed.metrics["test"] == expected.metrics["test"]
    assert resumed.metrics["cost"]["encodings"] == expected.metrics["cost"]["encodings"]
    weights = [(path / "encoder" / "model.safetensors").read_bytes() for path in (folder, tmp_path / "whole")]
    assert weights[0] == weights[1]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("adapter", "own"), [("lora", {"dropout": 0.1}), ("last", {"blocks": 1}), ("side", {})])
def test_killed_while_states_are_cached_and_while_an_adapter_trains_it_ends_with_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, adapter: str, own: dict[str, Any]
) -> None:
    pytest.importorskip("peft" if adapter == "lora" else "tokenizers")
    end2end = {"every": 2, "max_items": 40, "learning_rate": 1e-3} | own
    conf = END2END | {
        "data": {"name": "toyshop", "items": 600, "users": 60, "interactions": 600},
        "features": {"train": "end2end", "adapter": adapter, "end2end": end2end},
        "recommender": {"name": "vbpr", "dim": 8, "content_dim": 8},
        "train": END2END["train"] | {"epochs": 6, "evaluate_every": 3},
    }
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache-whole"))
    expected = run(conf, out=tmp_path / "whole")
    cache, folder = tmp_path / "cache-killed", tmp_path / "killed"
    monkeypatch.setenv("LMM4REC_CACHE", str(cache))
    history, mode = folder / "history.jsonl", "new"
    if adapter != "lora":
        run_until(lambda: len(list(cache.glob("states/*/shard-*"))) >= 2, folder, mode, conf)
        assert not list(cache.glob("states/*/states.json"))
        mode = "resume"
    run_until(lambda: history.exists() and len(history.read_text().splitlines()) >= 3, folder, mode, conf)
    resumed = run(conf, out=folder, resume=True)
    assert resumed.history == expected.history
    assert resumed.metrics["test"] == expected.metrics["test"]
    shards = [
        {path.name: path.read_bytes() for path in root.glob("states/*/shard-*")}
        for root in (cache, tmp_path / "cache-whole")
    ]
    assert shards[0] == shards[1]
