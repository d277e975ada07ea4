"""Trackers of experiments: what they are told, what a failing one costs, and the real ones where they are installed."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import lmm4rec
from lmm4rec.core.errors import ConfigError, MissingExtraError
from lmm4rec.experiments.folder import RunFolder

CONF: dict[str, Any] = {
    "title": "tracked",
    "data": {"name": "toyshop", "items": 30, "users": 20, "interactions": 200},
    "recommender": {"name": "bpr", "dim": 4},
    "train": {"epochs": 2},
}


class Calls(list[tuple[Any, ...]]):
    """The calls of a fake module; those of a name in `broken` raise."""

    broken: str = ""

    def note(self, name: str, *values: Any) -> Any:
        if name == self.broken:
            raise RuntimeError("the server is gone")
        self.append((name, *values))


def module(name: str, **members: Any) -> ModuleType:
    """A module of these members."""
    made = ModuleType(name)
    vars(made).update(members)
    return made


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A fake of wandb with the calls that are made here."""
    calls = Calls()

    def init(**options: Any) -> Any:
        calls.note("init", options)
        summary = SimpleNamespace(update=lambda values: calls.note("summary", values))
        return SimpleNamespace(
            id=options["id"] or "w1", summary=summary, log=lambda row, step: calls.note("log", step, row),
            log_artifact=lambda artifact: calls.note("artifact", artifact),
            finish=lambda exit_code: calls.note("finish", exit_code),
        )  # fmt: skip

    def artifact(name: str, type: str) -> Any:  # noqa: A002
        return SimpleNamespace(name=name, add_file=lambda path: calls.note("file", Path(path).name))

    monkeypatch.setitem(
        sys.modules, "wandb", module("wandb", init=init, Settings=lambda **options: options, Artifact=artifact)
    )
    return calls


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A fake of MLflow with the calls that are made here."""
    calls = Calls()

    class Client:
        def get_experiment_by_name(self, name: str) -> None:
            calls.note("experiment", name)

        def create_experiment(self, name: str) -> str:
            return "7"

        def create_run(self, experiment: str, run_name: str) -> Any:
            calls.note("create_run", experiment, run_name)
            return SimpleNamespace(info=SimpleNamespace(run_id="m1"))

        def log_batch(self, id_: str, params: Any = (), metrics: Any = ()) -> None:
            calls.note("params" if params else "metrics", id_, *(params or metrics))

        def log_artifact(self, id_: str, path: str) -> None:
            calls.note("file", Path(path).name)

        def set_terminated(self, id_: str, status: str) -> None:
            calls.note("status", id_, status)

    entities = SimpleNamespace(Param=lambda *values: values, Metric=lambda *values: values)
    monkeypatch.setitem(sys.modules, "mlflow", module("mlflow", MlflowClient=Client, entities=entities))
    return calls


@pytest.mark.long
def test_both_are_told_keys_epochs_metrics_and_report(wandb: Calls, mlflow: Calls, tmp_path: Path) -> None:
    result = lmm4rec.run(CONF, {"train.trackers": ["wandb", "mlflow"]}, out=tmp_path / "run")
    recall = result.measured.test["recall@20"]
    losses = [row["loss"] for row in result.history]
    assert [call[0] for call in wandb] == ["init", "log", "log", "summary", "file", "artifact", "finish"]
    assert wandb[0][1]["name"] == "tracked"
    assert wandb[0][1]["config"]["recommender"]["dim"] == 4
    assert [(step, row["loss"]) for _, step, row in wandb[1:3]] == [(1, losses[0]), (2, losses[1])]
    assert wandb[3][1]["test/recall@20"] == recall
    assert wandb[-1] == ("finish", 0)
    assert [call[0] for call in mlflow] == ["experiment", "create_run", "params", "metrics", "metrics", "metrics",
                                            "file", "status"]  # fmt: skip
    assert ("recommender.dim", "4") in mlflow[2]
    assert [metric[1] for call in mlflow[3:5] for metric in call[2:] if metric[0] == "loss"] == losses
    assert {metric[0]: metric[1] for metric in mlflow[5][2:]}["test/recall_at_20"] == recall
    assert mlflow[-2:] == [("file", "report.html"), ("status", "m1", "FINISHED")]
    lmm4rec.run(CONF, {"train.trackers": ["wandb", "mlflow"]}, out=tmp_path / "run", resume=True)
    assert len(wandb) == 7  # a finished run is read, and tracked no more


@pytest.mark.long
def test_a_model_without_training_is_tracked(wandb: Calls, tmp_path: Path) -> None:
    conf = {**CONF, "recommender": {"name": "popular"}, "train": {"trackers": ["wandb"]}}
    lmm4rec.run(conf, out=tmp_path / "run")
    assert [call[0] for call in wandb] == ["init", "summary", "file", "artifact", "finish"]


@pytest.mark.long
@pytest.mark.parametrize("broken", ["log", "summary", "artifact", "finish"])
def test_a_tracker_that_fails_costs_a_warning(
    broken: str, wandb: Calls, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wandb.broken = broken
    with caplog.at_level(logging.WARNING):
        result = lmm4rec.run(CONF, {"train.trackers": ["wandb"]}, out=tmp_path / "run")
    assert RunFolder(tmp_path / "run").is_finished
    assert len(result.history) == 2
    message = "warning: wandb failed, so the run goes on without it: the server is gone"
    assert [record.getMessage() for record in caplog.records].count(message) == 1


def test_what_is_known_before_is_said_before_any_work(
    wandb: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtraError, match=r"train.trackers = \[\"mlflow\"\] needs 'mlflow'.*lmm4rec\[mlflow\]"):
        lmm4rec.run(CONF, {"train.trackers": ["mlflow"]}, out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"train.trackers = \['neptune'\] does not fit"):
        lmm4rec.run(CONF, {"train.trackers": ["neptune"]}, out=tmp_path / "run")
    wandb.broken = "init"
    with pytest.raises(ConfigError, match=r"train.trackers: wandb cannot start: the server is gone"):
        lmm4rec.run(CONF, {"train.trackers": ["wandb"]}, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_an_interrupted_run_goes_on_in_the_same_place(
    wandb: Calls, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("lmm4rec.experiments.run.pack", stop)
        with pytest.raises(KeyboardInterrupt):
            lmm4rec.run(CONF, {"train.trackers": ["wandb"]}, out=tmp_path / "run")
    assert wandb[-1] == ("finish", 1)
    wandb.clear()
    lmm4rec.run(CONF, {"train.trackers": ["wandb"]}, out=tmp_path / "run", resume=True)
    assert wandb[0][1]["id"] == "w1"
    assert [call[0] for call in wandb] == ["init", "summary", "file", "artifact", "finish"]  # no epoch twice


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Local stores of both trackers."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.slow
@pytest.mark.usefixtures("real")
@pytest.mark.filterwarnings("ignore")
def test_the_real_mlflow(tmp_path: Path) -> None:
    mlflow: Any = pytest.importorskip("mlflow", reason="mlflow is not installed")
    result = lmm4rec.run(CONF, {"train.trackers": ["mlflow"]}, out=tmp_path / "run")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("lmm4rec").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["recommender.dim"] == "4"
    assert run.data.metrics["test/recall_at_20"] == pytest.approx(result.measured.test["recall@20"])
    assert [one.step for one in client.get_metric_history(run.info.run_id, "loss")] == [1, 2]
    assert [one.path for one in client.list_artifacts(run.info.run_id)] == ["report.html"]


@pytest.mark.slow
@pytest.mark.usefixtures("real")
@pytest.mark.filterwarnings("ignore")
def test_the_real_wandb(tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="wandb is not installed")
    lmm4rec.run(CONF, {"train.trackers": ["wandb"]}, out=tmp_path / "run")
    (log,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"recommender" in log.read_bytes()
