"""The runs of a report: those of a study folder, those in any run folders, or results just computed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lmm4rec.core.errors import CheckpointError, DataError
from lmm4rec.core.files import read_json
from lmm4rec.data.splits import PARTS
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.report.finished_runs import Design, DesignGroup, FinishedRun, RunCollection, comparable_groups
from lmm4rec.experiments.result import Result, read_result
from lmm4rec.experiments.study.axis_presets import SEED
from lmm4rec.experiments.study.folder import StudyFolder


def labeled_runs(title: str, results: Sequence[Result], labels: Sequence[str]) -> RunCollection:
    """Results on the same split, each a design of its own; the first one's metric ranks them.

    Raises:
        DataError: there is no result, two share a label, or one lacks the metric.
    """
    if not results:
        raise DataError("a report needs at least one run, got none")
    label, times = Counter(labels).most_common(1)[0]
    if times > 1:
        raise DataError(f"{times} runs of the report are labeled '{label}'; give each run a label of its own")
    metric = results[0].measured.metric
    for label, result in zip(labels, results, strict=True):
        for part in PARTS:
            values = getattr(result.measured, part)
            if metric not in values and result.plan.holds_out(part):
                known = ", ".join(values) or "nothing"
                raise DataError(f"run '{label}' has no {part} '{metric}', by which the report ranks; it has: {known}")
    runs = [FinishedRun(label, {"model": label}, result) for label, result in zip(labels, results, strict=True)]
    designs = [Design(run.name, run.axes, [run]) for run in runs]
    return RunCollection(title, {"model": labels}, [DesignGroup(title, designs)], metric)


def collect(folders: Sequence[Path]) -> RunCollection:
    """The finished runs of a study folder, or of run folders (or folders of them).

    Raises:
        CheckpointError: there is no finished run.
        ConfigError: a run was not measured on a test part.
    """
    if len(folders) == 1 and StudyFolder(folders[0]).record.exists():
        return _of_study(StudyFolder(folders[0]))
    found = {folder: _run_folders(folder) for folder in folders}
    if without := [str(folder) for folder, runs in found.items() if not runs]:
        raise CheckpointError(f"there is no study and no finished run in {', '.join(without)}")
    return _of_runs([run for runs in found.values() for run in runs])


def _of_study(folder: StudyFolder) -> RunCollection:
    record = read_json(folder.record)
    done = [cell for cell in record["cells"] if folder.cell(cell["name"]).is_finished]
    if not done:
        raise CheckpointError(f"no cell of the study in {folder.path} is finished yet")
    runs = [FinishedRun(cell["name"], cell["axes"], read_result(folder.cell(cell["name"]).path)) for cell in done]
    options = record["options"]
    return RunCollection(
        title=record["title"],
        axes=record["axes"],
        groups=comparable_groups(runs),
        metric=options["metric"],
        reference=options["reference"],
        level=options["level"],
        failures=folder.failures(),
        missing=[cell["name"] for cell in record["cells"] if cell not in done],
        search=record["search"],
    )


def _run_folders(folder: Path) -> list[Path]:
    if RunFolder(folder).experiment.exists():
        return [folder]
    inner = (path.parent for path in sorted(folder.glob("*/experiment.toml")))
    return [path for path in inner if RunFolder(path).is_finished]


def _of_runs(folders: Sequence[Path]) -> RunCollection:
    results = [read_result(folder) for folder in folders]
    for folder, result in zip(folders, results, strict=True):
        result.plan.require_share("test", f"a report compares by it, and {folder} was not measured on it")
    derived = [_derived_axes(result) for result in results]
    names = {axis: {values[axis] for values in derived if axis in values} for axes in derived for axis in axes}
    varying = [axis for axis, values in names.items() if axis == "recommender" or len(values) > 1]
    axes = [{axis: values[axis] for axis in varying if axis in values} for values in derived]
    if len({tuple(values.values()) for values in axes}) < len(axes):  # the runs differ in a key that is no axis
        axes = [{"run": folder.name, **values} for folder, values in zip(folders, axes, strict=True)]
    runs = [FinishedRun(f.name, values, result) for f, values, result in zip(folders, axes, results, strict=True)]
    varying = list(dict.fromkeys(axis for values in axes for axis in values))
    order = {axis: list(dict.fromkeys(values[axis] for values in axes if axis in values)) for axis in varying}
    title = results[0].plan.title if len(results) == 1 else f"{len(results)} runs"
    metrics = {run.measured.metric for run in runs}
    return RunCollection(title, order, comparable_groups(runs), min(metrics, key=lambda m: (m != "recall@20", m)))


def _derived_axes(result: Result) -> dict[str, str]:
    """The values of a run on the axes of a study; those of content only where the model uses some."""
    plan = result.plan
    content = {
        "encoder": plan.encoder_label,
        "paradigm": plan.features.label,
        "modalities": "+".join(plan.features.modalities) or "all",
    }
    return {
        "data": result.measured.data.name,
        "recommender": plan.recommender.label,
        **(content if plan.encoder else {}),
        "protocol": plan.evaluate.protocol,
        SEED: str(plan.train.seed),
    }
