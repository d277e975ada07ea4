"""Runs that fail late, are interrupted, or are started twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmm4rec.core.errors import DataError
from lmm4rec.experiments import run as run_module
from lmm4rec.experiments.run import run
from lmm4rec.training.trainer import Trainer

CONF: dict[str, Any] = {
    "data": {"name": "toyshop", "items": 40, "users": 30, "interactions": 300},
    "recommender": {"name": "bpr", "dim": 4},
    "train": {"epochs": 2, "checkpoint_every_s": 0.0},
}


def test_a_failure_after_training_keeps_what_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise DataError("no bundle")

    with monkeypatch.context() as broken:
        broken.setattr(run_module, "pack", fail)
        with pytest.raises(DataError, match="no bundle") as failure:
            run(CONF, out=tmp_path / "run")
    assert "--resume begins after training" in failure.value.__notes__[0]
    monkeypatch.setattr(Trainer, "_train_epoch", fail)
    result = run(CONF, out=tmp_path / "run", resume=True)
    assert len(result.history) == 2
    assert len(result.bundle().items) == 40
