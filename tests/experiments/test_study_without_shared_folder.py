"""A study on machines that share nothing but a bucket of moto's S3 server: the tables of one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmm4rec.core.errors import DataError
from lmm4rec.core.files import read_json
from lmm4rec.distributed.pool import Died, Outcome, SerialPool, WorkerOptions
from lmm4rec.experiments import remote_copy
from lmm4rec.experiments.callbacks import HistoryWriter
from lmm4rec.experiments.remote_copy import RemoteCopy
from lmm4rec.experiments.study import study as study_module
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.study import study
from lmm4rec.training.history import Row
from s3_buckets import objects

CONF: dict[str, Any] = {
    "title": "machines",
    "data": {"name": "toyshop", "users": 30, "items": 20, "interactions": 300},
    "encoder": {"name": "color"},
    "search": {"budget": 2, "sampler": "grid"},
    "train": {"epochs": 4, "batch_size": 128, "checkpoint_every_s": 0.0, "patience": 0},
    "axes": {
        "recommender": {
            "vbpr": {
                "recommender.name": "vbpr",
                "recommender.dim": 4,
                "search": {"recommender.l2_weight": [0.1, 0.01]},
            },
            "popular": {"recommender.name": "popular", "without": ["encoder", "seed"]},
        },
        "seed": [0],  # a list behind a table: TOML writes it first, and cells would have other names
    },
}


class Machines(SerialPool):
    """Each job is done by a machine with a cache of its own; the first run of `vbpr` is killed after three epochs."""

    def __init__(self, options: WorkerOptions, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(options)
        self._folder, self._patch, self._kills = folder, patch, True
        self.epochs: list[list[int]] = []  # of each job

    def wait(self) -> Outcome | Died:
        job, write = self._jobs[0], HistoryWriter.on_epoch_end
        self.epochs.append([])
        with self._patch.context() as machine:

            def on_epoch_end(writer: HistoryWriter, row: Row) -> None:
                write(writer, row)
                self.epochs[-1].append(int(row["epoch"]))
                if job.name == "cell-vbpr_seed-0" and row["epoch"] == 3 and self._kills:
                    self._kills = False
                    machine.setattr(RemoteCopy, "copy", lambda _: None)  # as after a kill, nothing more is copied
                    raise KeyboardInterrupt

            machine.setenv("LMM4REC_CACHE", str(self._folder / f"machine-{len(self.epochs)}"))
            machine.setattr(HistoryWriter, "on_epoch_end", on_epoch_end)
            study_module._tasks_of.cache_clear()
            try:
                return super().wait()
            except KeyboardInterrupt:
                return Died(job, "was killed")


def metrics(folder: StudyFolder) -> dict[str, Any]:
    return {name: read_json(folder.cell(name).metrics)["test"] for name in ("vbpr_seed-0", "popular")}


@pytest.mark.long
def test_it_ends_as_on_one_machine(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = study(CONF, out=tmp_path / "one", workers=0)
    assert expected.failed == []
    monkeypatch.setenv("LMM4REC_STORE", f"s3://{bucket}/store")
    pools: list[Machines] = []

    def open_pool(workers: int, cluster: str, options: WorkerOptions) -> Machines:
        assert (cluster, options.shared, options.logs) == ("auto", (), None)
        pools.append(Machines(options, tmp_path, monkeypatch))
        return pools[-1]

    monkeypatch.setattr(study_module, "open_pool", open_pool)
    monkeypatch.setattr(remote_copy, "_TIME_SHARE", 1e9)  # a copy after each epoch
    found = study(CONF, out=f"s3://{bucket}/studies/x", cluster="auto")
    assert (found.done, found.failed) == (expected.done, [])
    assert metrics(found.folder) == metrics(expected.folder)
    assert pools[0].epochs == [[], [1, 2, 3, 4, 1, 2, 3, 4], [1, 2, 3], [2, 3, 4], []]


SMALL = {
    "title": "seeds",
    "data": CONF["data"],
    "recommender": {"name": "bpr", "dim": 4},
    "train": {**CONF["train"], "epochs": 5},
    "axes": {"seed": [0, 1]},
}


@pytest.mark.long
def test_what_a_killed_command_left_is_gone_on_with_and_whole_at_the_end(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While a worker does a cell, the command copies its folder as if another task had ended."""
    monkeypatch.setattr(remote_copy, "_TIME_SHARE", 1e9)
    monkeypatch.setattr(study_module, "open_pool", lambda _, __, options: SerialPool(options))
    address, calls, epochs = f"s3://{bucket}/studies/x", 0, list[int]()
    copies: list[RemoteCopy] = []
    opened, write = study_module.study_folder, HistoryWriter.on_epoch_end

    def study_folder(name: str, out: str) -> StudyFolder:
        folder = opened(name, out)
        if name and folder.remote:  # not a worker's
            copies.append(folder.remote)
        monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / f"worker-{calls}"))
        return folder

    def on_epoch_end(writer: HistoryWriter, row: Row) -> None:
        write(writer, row)
        epochs.append(int(row["epoch"]))
        if calls == 1 and row["epoch"] == 3:
            monkeypatch.setattr(RemoteCopy, "copy", lambda _: None)
            raise KeyboardInterrupt
        copies[-1].copy_if_due()

    monkeypatch.setattr(study_module, "study_folder", study_folder)
    monkeypatch.setattr(HistoryWriter, "on_epoch_end", on_epoch_end)
    calls, copy = 1, RemoteCopy.copy
    with pytest.raises(KeyboardInterrupt):
        study(SMALL, out=address, cluster="auto")
    monkeypatch.setattr(RemoteCopy, "copy", copy)
    calls = 2
    study_module._tasks_of.cache_clear()
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path / "cache"))
    found = study(SMALL, out=address, cluster="auto", resume=True)
    assert (found.done, found.failed) == (["seed-0", "seed-1"], [])
    assert epochs == [1, 2, 3, 2, 3, 4, 5, 1, 2, 3, 4, 5]
    for name in found.done:
        here = {path.relative_to(found.folder.path).as_posix() for path in found.folder.cell(name).path.rglob("*.*")}
        there = {key.removeprefix("studies/x/") for key in objects(bucket, f"studies/x/cells/{name}/")}
        assert {f"cells/{name}/{file}" for file in ("experiment.toml", "environment.json", "metrics.json")} <= here
        assert here - {file for file in here if Path(file).name.startswith(".")} == there


@pytest.mark.long
def test_a_failure_is_forgotten_when_its_task_succeeds(
    bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(study_module, "open_pool", lambda _, __, options: SerialPool(options))
    with monkeypatch.context() as failing:
        failing.setattr("lmm4rec.experiments.study.tasks.run", _raise)
        first = study(SMALL, out=f"s3://{bucket}/studies/x", cluster="auto")
    assert {name: one["message"] for name, one in first.folder.failures().items()} == {
        "cell-seed-0": "no luck", "cell-seed-1": "no luck"
    }  # fmt: skip
    second = study(SMALL, out=f"s3://{bucket}/studies/x", cluster="auto", resume=True)
    assert (second.failed, second.folder.failures()) == ([], {})
    assert not any("failures" in key for key in objects(bucket, "studies/x/"))


def _raise(*_: object, **__: object) -> None:
    raise DataError("no luck")
