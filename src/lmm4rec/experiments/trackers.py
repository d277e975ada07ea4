"""Experiment trackers: Weights & Biases and MLflow get a run's keys, epochs, test metrics and report."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeAlias

from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.core.files import read_json, write_json
from lmm4rec.training.callbacks import Callback
from lmm4rec.training.history import Row

TrackerName: TypeAlias = Literal["wandb", "mlflow"]
_PROJECT = "lmm4rec"
_IDS = "trackers.json"  # in the run folder: the id of the run in each tracker, for a run that is resumed
_LARGEST_BATCH = 100  # parameters that MLflow takes at once

log = logging.getLogger(__name__)


class Tracker(Protocol):
    """A run in a tracker."""

    id: str

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the numbers of an epoch, or (step 0) of the whole run."""
        ...

    def finish(self, report: Path | None, *, failed: bool) -> None:
        """Add the report, where there is one, and end the run."""
        ...


class WeightsAndBiases:
    """A run of wandb; WANDB_PROJECT, WANDB_MODE (offline) and its other variables apply."""

    def __init__(self, name: str, keys: Mapping[str, Any], folder: Path, id_: str | None) -> None:
        self.wandb: Any = require_tracker("wandb")
        self.run = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", _PROJECT), name=name, config=dict(keys), dir=str(folder), id=id_,
            resume="allow", settings=self.wandb.Settings(silent=True, console="off"),
        )  # fmt: skip
        self.id = str(self.run.id)

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log an epoch as a step; numbers of the whole run are its summary."""
        if step:
            self.run.log(dict(values), step=step)
        else:
            self.run.summary.update(dict(values))

    def finish(self, report: Path | None, *, failed: bool) -> None:
        """Add the report as an artifact, and end the run."""
        if report is not None:
            artifact = self.wandb.Artifact(f"report-{self.id}", type="report")
            artifact.add_file(str(report))
            self.run.log_artifact(artifact)
        self.run.finish(exit_code=int(failed))


class MLflow:
    """A run of MLflow; MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME apply."""

    def __init__(self, name: str, keys: Mapping[str, Any], folder: Path, id_: str | None) -> None:
        mlflow: Any = require_tracker("mlflow")
        self.entities, self.client = mlflow.entities, mlflow.MlflowClient()
        if id_ is not None:
            self.id = id_
            self.client.set_terminated(id_, "RUNNING")
            return
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT)
        known = self.client.get_experiment_by_name(title)
        experiment = known.experiment_id if known else self.client.create_experiment(title)
        self.id = str(self.client.create_run(experiment, run_name=name).info.run_id)
        params = [self.entities.Param(key, str(value)) for key, value in _flat(keys)]
        for start in range(0, len(params), _LARGEST_BATCH):
            self.client.log_batch(self.id, params=params[start : start + _LARGEST_BATCH])

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Log the numbers under names that MLflow allows: recall_at_20."""
        now = int(time.time() * 1000)
        names = {name: re.sub(r"[^\w/. -]", "_", name.replace("@", "_at_")) for name in values}
        metrics = [self.entities.Metric(names[name], float(value), now, step) for name, value in values.items()]
        self.client.log_batch(self.id, metrics=metrics)

    def finish(self, report: Path | None, *, failed: bool) -> None:
        """Add the report as an artifact, and end the run."""
        if report is not None:
            self.client.log_artifact(self.id, str(report))
        self.client.set_terminated(self.id, "FAILED" if failed else "FINISHED")


_KINDS: Mapping[TrackerName, Callable[[str, Mapping[str, Any], Path, str | None], Tracker]] = {
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
}


class Trackers(Callback):
    """All trackers of a run. One that fails after it has started costs a warning, never the run."""

    def __init__(
        self,
        name: str,
        keys: Mapping[str, Any],
        folder: Path,
        *,
        trackers: Annotated[Sequence[TrackerName], Doc('Also log to: ["wandb"], ["mlflow"]; each is an extra.')] = (),
    ) -> None:
        """`keys` are the tables of the conf, `folder` is the run folder."""
        self.name, self.keys, self.folder, self.wanted = name, keys, folder, trackers
        self.started: dict[str, Tracker] = {}

    def start(self) -> None:
        """Start a run in each tracker, or go on with the one that an interrupted run began.

        Raises:
            MissingExtraError: its package is not installed.
            ConfigError: it cannot start.
        """
        path = self.folder / _IDS
        ids: dict[str, Any] = read_json(path) if self.wanted and path.exists() else {}
        for name in dict.fromkeys(self.wanted):
            require_tracker(name)
            try:
                tracker = _KINDS[name](self.name, self.keys, self.folder, ids.get(name))
            except Exception as error:
                raise ConfigError(f"train.trackers: {name} cannot start: {error}") from error
            self.started[name], ids[name] = tracker, tracker.id
        if self.started:
            write_json(path, ids)

    def on_epoch_end(self, row: Row) -> None:
        """Log the epoch's numbers."""
        self._each(lambda tracker: tracker.log(row, int(row["epoch"])))

    def finish(self, test: Mapping[str, float], report: Path) -> None:
        """Log the metrics of the test part, add the report, and end."""
        self._each(lambda tracker: tracker.log({f"test/{name}": value for name, value in test.items()}, 0))
        self._each(lambda tracker: tracker.finish(report if report.exists() else None, failed=False))

    def fail(self) -> None:
        """End as failed."""
        self._each(lambda tracker: tracker.finish(None, failed=True))

    def _each(self, call: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.started.items()):
            try:
                call(tracker)
            except Exception as error:  # noqa: BLE001 - of somebody else's package
                del self.started[name]
                log.warning("warning: %s failed, so the run goes on without it: %s", name, error)


def require_tracker(name: str) -> Any:
    """The module of a tracker.

    Raises:
        MissingExtraError: it is not installed.
    """
    return optional(name, extra=name, purpose=f'train.trackers = ["{name}"]')


def _flat(keys: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in keys.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
