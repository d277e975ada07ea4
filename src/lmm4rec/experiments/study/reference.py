"""Reference of a study: the design that the report compares the others with, looked for before any work."""

from __future__ import annotations

from collections.abc import Sequence

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.report.design_comparisons import names_of_designs
from lmm4rec.experiments.report.finished_runs import FinishedRun, comparable_groups
from lmm4rec.experiments.result import ChosenModel, DataFacts, Result, RunMetrics
from lmm4rec.experiments.study.cells import Cell
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.spec import StudySpec


def check_reference(spec: StudySpec, cells: Sequence[Cell], folder: StudyFolder) -> None:
    """Refuse a reference that no design will have as its name.

    Raises:
        ConfigError: it says which designs there are.
    """
    wanted = spec.options.reference
    if not wanted:
        return
    groups = comparable_groups([_without_results(cell, folder.cell(cell.name)) for cell in cells])
    names = {name for group in groups for name in names_of_designs(group)} | {cell.design_name for cell in cells}
    if wanted not in names:
        labels = dict.fromkeys(design.label for group in groups for design in group.designs)
        raise ConfigError(
            f"study.reference = '{wanted}' is no design of the study.{did_you_mean(wanted, names)} There are: "
            f"{', '.join(labels)}"
        )


def _without_results(cell: Cell, folder: RunFolder) -> FinishedRun:
    """A cell as the run that it will be, as far as the names of designs depend on it: split and axes."""
    split = fingerprint(cell.plan.data.table, cell.plan.split.table)
    data = DataFacts(cell.plan.data.name, 0, 0, 0, 0, 0, 0, cell.plan.split.method, split, [])
    measured = RunMetrics(data=data, features={}, chosen=ChosenModel("", epoch=0, epochs=0), valid={})
    return FinishedRun(cell.name, cell.axes, Result(folder, cell.plan, measured))
