"""The runs of a report: those of a study folder, those in any run folders, or results just computed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

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
    runs = [FinishedRun(label, {"model": label}, result) for label, result in zip(labels, results, strict=True)]
    _require_metric(runs, metric)
    designs = [Design(run.name, run.axes, [run]) for run in runs]
    return RunCollection(title, {"model": labels}, [DesignGroup(title, designs)], metric)


def _require_metric(runs: Sequence[FinishedRun], metric: str, advice: str = "") -> None:
    for run in runs:
        if part := _part_without(run, metric):
            known = ", ".join(getattr(run.measured, part)) or "nothing"
            raise DataError(
                f"run '{run.name}' has no {part} '{metric}', by which the report ranks; it has: {known}{advice}"
            )


def _part_without(run: FinishedRun, metric: str) -> str:
    """The part of a run that was not measured by a metric, though something is held out for it; empty: none."""
    parts = (part for part in PARTS if run.result.plan.holds_out(part))
    return next((part for part in parts if metric not in getattr(run.measured, part)), "")


def _shared_metric(runs: Sequence[FinishedRun]) -> str:
    """A metric that all runs have: one that chose the epoch of a run before others, recall@20 before others.

    Raises:
        DataError: there is none.
    """
    shared = [metric for metric in runs[0].measured.test if not any(_part_without(run, metric) for run in runs)]
    if not shared:
        known = "; ".join(f"{run.name} has {', '.join(run.measured.test) or 'none'}" for run in runs[:5])
        raise DataError(
            f"the runs have no metric in common by which a report could rank them: {known}. Report on them apart, or "
            "run them again with the same [evaluate] ks and metrics"
        )
    chosen = {run.measured.metric for run in runs}
    return min(shared, key=lambda metric: (metric not in chosen, metric != "recall@20", metric))


def collect(folders: Sequence[Path]) -> RunCollection:
    """The finished runs of a study folder, or of run folders (or folders of them).

    Raises:
        CheckpointError: there is no finished run.
        ConfigError: a run was not measured on a test part.
        DataError: there is no metric that all runs have, or a cell lacks that of its study.
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
    _require_metric(runs, options["metric"], ". Set study.metric to one of them with `lmm4rec study --resume`")
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
    axes = [{**values, **more} for values, more in zip(axes, _other_keys(axes, results), strict=True)]
    if len({tuple(values.items()) for values in axes}) < len(axes):  # a run is there twice
        axes = [{"run": folder.name, **values} for folder, values in zip(folders, axes, strict=True)]
    runs = [FinishedRun(f.name, values, result) for f, values, result in zip(folders, axes, results, strict=True)]
    varying = list(dict.fromkeys(axis for values in axes for axis in values))
    order = {axis: list(dict.fromkeys(values[axis] for values in axes if axis in values)) for axis in varying}
    title = results[0].plan.title if len(results) == 1 else f"{len(results)} runs"
    return RunCollection(title, order, comparable_groups(runs), _shared_metric(runs))


def _other_keys(axes: Sequence[Mapping[str, str]], results: Sequence[Result]) -> list[dict[str, str]]:
    """The keys in which each run differs from runs with the same axes but for the seed, which are no seeds of it."""
    tables = [dict(_flat(result.plan.tables)) for result in results]
    same: dict[tuple[tuple[str, str], ...], list[int]] = {}
    for index, values in enumerate(axes):
        same.setdefault(tuple(pair for pair in values.items() if pair[0] != SEED), []).append(index)
    found: list[dict[str, str]] = [{} for _ in axes]
    for runs in same.values():
        for key in dict.fromkeys(key for run in runs for key in tables[run] if key != f"train.{SEED}"):
            by_run = {run: tables[run].get(key, "none") for run in runs}
            if len(set(by_run.values())) > 1:
                for run, value in by_run.items():
                    found[run][key] = value
    return found


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The dotted keys of a table, each with its value as text."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


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
