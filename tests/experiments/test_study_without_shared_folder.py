"""A study on machines that share nothing but a bucket of moto's S3 server: the tables of one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmm4rec.core.files import read_json
from lmm4rec.distributed.pool import Died, Outcome, SerialPool, WorkerOptions
from lmm4rec.experiments import remote_copy
from lmm4rec.experiments.callbacks import HistoryWriter
from lmm4rec.experiments.remote_copy import RemoteCopy
from lmm4rec.experiments.study import study as study_module
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.study import study
from lmm4rec.training.history import Row

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
