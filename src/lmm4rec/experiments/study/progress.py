"""Progress of a study: the state of each cell, from the study folder alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from lmm4rec.experiments.result import RunMetrics
from lmm4rec.experiments.study.cells import Cell
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.spec import StudySpec
from lmm4rec.experiments.study.tasks import task_names

ByTask: TypeAlias = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class CellProgress:
    """The state of one cell."""

    cell: Cell
    state: Literal["done", "failed", "running", "waiting"]
    message: str = ""  # the error, or the task that is running
    seconds: float = 0.0  # of the finished run
    value: float | None = None  # of the study's metric, on validation


def study_progress(spec: StudySpec, cells: Sequence[Cell], folder: StudyFolder) -> list[CellProgress]:
    """The state of every cell."""
    failures, running = folder.failures(), folder.running_tasks()
    return [_cell_progress(spec, cell, folder, failures, running) for cell in cells]


def seconds_by_design(progress: Sequence[CellProgress]) -> dict[str, list[float]]:
    """The seconds of the finished cells, by the name of their design."""
    seconds: dict[str, list[float]] = {}
    for one in progress:
        if one.state == "done":
            seconds.setdefault(one.cell.design_name, []).append(one.seconds)
    return seconds


def _cell_progress(
    spec: StudySpec, cell: Cell, folder: StudyFolder, failures: ByTask, running: Sequence[str]
) -> CellProgress:
    run = folder.cell(cell.name)
    if run.is_finished:
        metrics = RunMetrics.read(run.metrics)
        value = metrics.valid.get(spec.options.metric)
        return CellProgress(cell, "done", seconds=metrics.cost["seconds"], value=value)
    tasks = task_names(cell)
    if task := next((task for task in tasks if task in running), None):
        return CellProgress(cell, "running", task.partition("-")[0])
    if failed := next((task for task in tasks if task in failures), None):
        return CellProgress(cell, "failed", f"{failures[failed]['error']}: {failures[failed]['message']}")
    return CellProgress(cell, "waiting")
