"""Studies of which a process is killed: they end with the numbers of one that ran through."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from camp_study import camp_study

from lmm4rec.core.files import read_json
from lmm4rec.experiments.report.study_report import write_study_report
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.study import study
from process_kills import kill_when

SCRIPT = """
import json, sys
from lmm4rec.experiments.study.study import study
if __name__ == "__main__":
    study(json.loads(sys.argv[1]), out=sys.argv[2], resume=sys.argv[3] == "resume", workers=2)
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_twice_with_two_workers_it_ends_with_the_same_tables(tmp_path: Path) -> None:
    """The first kill falls into a search, the second between cells; the workers of a dead parent end themselves."""
    pytest.importorskip("optuna")
    conf = camp_study(tmp_path / "camps")
    conf |= {
        "train": {**conf["train"], "epochs": 40, "evaluate_every": 5, "batch_size": 32, "checkpoint_every_s": 0.0},
        "search": {"budget": 5, "startup": 2, "train.learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}},
    }
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    study(conf, out=whole, workers=0)
    _run_until(script, conf, killed, "new", lambda: any(killed.glob("searches/*/trials/*/history.jsonl")))
    _run_until(script, conf, killed, "resume", lambda: len(list(killed.glob("cells/*/metrics.json"))) >= 2)
    result = study(conf, out=killed, resume=True, workers=2)
    assert not result.failed
    for name in result.done:
        first, second = (read_json(StudyFolder(f).cell(name).metrics) for f in (whole, killed))
        assert first["test"] == second["test"]
        assert first["valid"] == second["valid"]
    tables = [
        _numbers_of(write_study_report([folder], tmp_path / f"report-{folder.name}")) for folder in (whole, killed)
    ]
    assert tables[0] == tables[1]


def _run_until(script: Path, conf: dict[str, Any], folder: Path, mode: str, ready: Any) -> None:
    process = subprocess.Popen([sys.executable, str(script), json.dumps(conf), str(folder), mode])
    kill_when(ready, process, seconds=240)
    assert not StudyFolder(folder).running_tasks()  # although running.json is still there


def _numbers_of(page: Path) -> list[list[dict[str, Any]]]:
    """The comparisons and the quality of the cells: all that the tables say but seconds and megabytes."""
    cells = pl.read_parquet(page.parent / "data" / "cells.parquet").sort("cell")
    quality = [name for name in cells.columns if name.startswith(("test.", "valid.", "slices.", "beyond."))]
    return [pl.read_parquet(page.parent / "data" / "comparisons.parquet").to_dicts(), cells.select(quality).to_dicts()]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_worker_that_is_killed_is_replaced_and_its_run_goes_on(tmp_path: Path) -> None:
    bpr = {"recommender.name": "bpr", "without": ["encoder"]}
    conf = camp_study(tmp_path / "camps")
    conf |= {
        "train": {**conf["train"], "epochs": 300, "batch_size": 32, "patience": 0},
        "axes": {"seed": [0, 1], "recommender": {"BPR": bpr}},
    }
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, str(script), json.dumps(conf), str(tmp_path / "s"), "new"])
    folder = StudyFolder(tmp_path / "s")
    deadline = time.monotonic() + 100
    cell = folder.cell("seed-0_bpr")
    while not cell.history_rows() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "cell-seed-0_bpr" in folder.running_tasks()
    os.kill(read_json(cell.path / ".lock.json")["pid"], signal.SIGKILL)
    assert process.wait() == 0
    assert (folder.failures(), folder.running_tasks()) == ({}, [])
    whole = study(conf, out=tmp_path / "whole", workers=0)
    for name in whole.done:
        metrics = [read_json(one.cell(name).metrics)["test"] for one in (whole.folder, folder)]
        assert metrics[0] == metrics[1]
