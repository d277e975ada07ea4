"""Finished runs gathered: by cells of a study, or any run folders; what they are, and every user's values."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float64

from lmm4rec.core.errors import CheckpointError, DataError
from lmm4rec.core.files import read_json
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.report.user_examples import paradigm
from lmm4rec.experiments.result import Result
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.ready import SEED

Axes = Mapping[str, str]

TOTAL = "cost.total_seconds"  # of a run, and of making its features where an earlier one did that


def read_result(folder: Path) -> Result:
    """A finished run, read from its folder.

    Raises:
        CheckpointError: there is no finished run.
    """
    place = RunFolder(folder)
    if not place.experiment.exists() or not place.is_finished:
        raise CheckpointError(
            f"there is no finished run in {folder}: expected experiment.toml and metrics.json with test"
        )
    content = tomllib.loads(place.experiment.read_text(encoding="utf-8"))
    content.pop("name", None)
    return Result(place, make_plan(load_spec(content)), read_json(place.metrics))


class PanelKey(NamedTuple):
    """What cells must share to be compared."""

    split: str  # its fingerprint
    protocol: str
    candidates: str  # the items that compete


@dataclass(frozen=True)
class Cell:
    """One finished run and where it stands on the axes."""

    name: str
    axes: Axes
    result: Result

    @property
    def metrics(self) -> Mapping[str, Any]:
        """What its metrics.json holds."""
        return self.result.metrics

    @property
    def seed(self) -> int:
        """Its training seed."""
        seed: int = self.result.plan.tables["train"]["seed"]
        return seed

    @property
    def panel(self) -> PanelKey:
        """Cells with another one are never compared: split, protocol, candidates."""
        evaluate = self.result.plan.tables["evaluate"]
        split = self.metrics["data"]["split_fingerprint"]
        return PanelKey(split, evaluate["protocol"], evaluate.get("candidates", "all"))

    def numbers(self) -> dict[str, float]:
        """Every number of metrics.json by dotted name, such as `test.recall@20` or `cost.seconds`."""
        found = dict(_numbers(self.metrics, ""))
        made = max(found.get("cost.features_seconds", 0.0) - found.get("cost.encode_seconds", 0.0), 0.0)
        return found | {TOTAL: found["cost.seconds"] + made}


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)


@dataclass(frozen=True)
class Design:
    """The cells that differ in nothing but the seed."""

    label: str
    axes: Axes  # without the seed
    cells: Sequence[Cell]

    def numbers(self, key: str) -> list[float]:
        """A number of each seed's cell; those that have none are left out."""
        found = (cell.numbers().get(key) for cell in self.cells)
        return [value for value in found if value is not None]

    def keys(self, prefix: str) -> list[str]:
        """The names of the numbers that begin so."""
        return list(dict.fromkeys(key for cell in self.cells for key in cell.numbers() if key.startswith(prefix)))

    def mean(self, key: str) -> float:
        """The mean over seeds; NaN where there is none."""
        values = self.numbers(key)
        return float(np.mean(values)) if values else float("nan")

    def per_user(self, metric: str) -> Float64[np.ndarray, "seeds users"]:
        """The test values of all users under all seeds, users in the order of their ids.

        Raises:
            DataError: the seeds were not measured on the same users.
        """
        columns = [self._users[cell.name] for cell in self.cells]
        if any(not frame["user"].equals(columns[0]["user"]) for frame in columns):
            raise DataError(f"the cells of '{self.label}' were measured on different users, so they cannot be averaged")
        return np.stack([frame[metric].to_numpy() for frame in columns])

    @cached_property
    def _users(self) -> dict[str, pl.DataFrame]:
        return {cell.name: _test_users(cell) for cell in self.cells}


def _test_users(cell: Cell) -> pl.DataFrame:
    frame = pl.read_parquet(cell.result.folder.per_user)
    return frame.filter(pl.col("part") == "test").drop("part").sort("user")


@dataclass(frozen=True)
class Panel:
    """The designs that can be compared: the same split, the same protocol."""

    title: str
    designs: Sequence[Design]


@dataclass(frozen=True)
class Collection:
    """All that a report is about."""

    title: str
    axes: Mapping[str, Sequence[str]]  # axis -> its values, in order; the seed is one
    panels: Sequence[Panel]
    metric: str = "recall@20"
    reference: str = ""  # the label or folder name of a design; empty: the best by validation
    level: float = 0.05
    failures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: Sequence[str] = ()  # cells without a result
    search: Mapping[str, Any] | None = None

    @property
    def designs(self) -> list[Design]:
        """Of all panels."""
        return [design for panel in self.panels for design in panel.designs]

    @property
    def cells(self) -> list[Cell]:
        """Of all designs."""
        return [cell for design in self.designs for cell in design.cells]


def collect(folders: Sequence[Path]) -> Collection:
    """What a study folder holds, or what run folders (or folders of them) hold.

    Raises:
        CheckpointError: there is no finished run.
    """
    if len(folders) == 1 and StudyFolder(folders[0]).record.exists():
        return _of_study(StudyFolder(folders[0]))
    runs = [run for folder in folders for run in _runs(folder)]
    if not runs:
        raise CheckpointError(f"there is no study and no finished run in {', '.join(map(str, folders))}")
    return _of_runs(runs)


def _of_study(folder: StudyFolder) -> Collection:
    record = read_json(folder.record)
    done = [cell for cell in record["cells"] if folder.cell(cell["name"]).is_finished]
    if not done:
        raise CheckpointError(f"no cell of the study in {folder.path} is finished yet")
    cells = [_cell(folder, cell["name"], cell["axes"]) for cell in done]
    options = record["options"]
    return Collection(
        title=record["title"],
        axes=record["axes"],
        panels=panels_of(cells),
        metric=options["metric"],
        reference=options["reference"],
        level=options["level"],
        failures=folder.failures(),
        missing=[cell["name"] for cell in record["cells"] if cell not in done],
        search=record["search"],
    )


def _cell(folder: StudyFolder, name: str, axes: Axes) -> Cell:
    return Cell(name, axes, read_result(folder.cell(name).path))


def _runs(folder: Path) -> list[Path]:
    if RunFolder(folder).experiment.exists():
        return [folder]
    inner = (path.parent for path in sorted(folder.glob("*/experiment.toml")))
    return [path for path in inner if RunFolder(path).is_finished]


def _of_runs(runs: Sequence[Path]) -> Collection:
    results = [read_result(run) for run in runs]
    found = [_derived(result) for result in results]
    varying = [axis for axis in found[0] if axis == "recommender" or len({axes[axis] for axes in found}) > 1]
    axes = [{axis: values[axis] for axis in varying} for values in found]
    if len({tuple(values.values()) for values in axes}) < len(axes):  # they differ in something that is no axis
        axes = [{"run": run.name, **values} for run, values in zip(runs, axes, strict=True)]
    cells = [Cell(run.name, values, result) for run, values, result in zip(runs, axes, results, strict=True)]
    order = {axis: list(dict.fromkeys(values[axis] for values in axes)) for axis in axes[0]}
    title = results[0].plan.title if len(results) == 1 else f"{len(results)} runs"
    metrics = {cell.metrics["chosen"]["metric"] for cell in cells}
    return Collection(title, order, panels_of(cells), metric=min(metrics, key=lambda name: (name != "recall@20", name)))


def _derived(result: Result) -> dict[str, str]:
    features = result.plan.tables.get("features", {})
    return {
        "data": result.metrics["data"]["name"],
        "recommender": result.plan.recommender,
        "encoder": result.plan.encoder,
        "paradigm": paradigm(features) if features else "none",
        "modalities": "+".join(features.get("modalities", [])) or "all",
        "protocol": result.plan.tables["evaluate"]["protocol"],
        SEED: str(result.plan.tables["train"]["seed"]),
    }


def panels_of(cells: Sequence[Cell]) -> list[Panel]:
    """The cells in groups that can be compared, each by its designs."""
    by_panel: dict[PanelKey, list[Cell]] = {}
    for cell in cells:
        by_panel.setdefault(cell.panel, []).append(cell)
    apart = _telling_panels(list(by_panel.values()))
    titles = _titles(by_panel, apart)
    return [Panel(titles[key], _designs(members, apart)) for key, members in by_panel.items()]


def _telling_panels(panels: Sequence[Sequence[Cell]]) -> list[str]:
    """The axes that have one value in each panel, and not the same in all; they are named in a panel's title."""
    values = [{axis: {cell.axes.get(axis) for cell in cells} for axis in cells[0].axes} for cells in panels]
    first, *others = values
    return [
        axis
        for axis, found in first.items()
        if axis not in (SEED, "data", "protocol")
        and all(len(one.get(axis, ())) == 1 for one in values)
        and any(one[axis] != found for one in others)
    ]


def _titles(panels: Mapping[PanelKey, Sequence[Cell]], apart: Sequence[str]) -> dict[PanelKey, str]:
    """Data, and what else tells the panels apart."""
    titles: dict[PanelKey, str] = {}
    for key, (cell, *_) in panels.items():
        parts = [cell.axes.get("data", cell.metrics["data"]["name"])]
        parts += [_named(axis, cell.axes[axis]) for axis in apart]
        parts += [f"protocol {key.protocol}"] if len({one.protocol for one in panels}) > 1 else []
        parts += [f"ranked among {key.candidates} items"] if len({one.candidates for one in panels}) > 1 else []
        title = ", ".join(parts)
        titles[key] = title if title not in titles.values() else f"{title}, split {key.split[:6]}"
    return titles


def _named(axis: str, value: str) -> str:
    return f"{value} {axis}" if axis.isalpha() else f"{axis} {value}"


def _designs(cells: Sequence[Cell], apart: Sequence[str]) -> list[Design]:
    """The cells by what they differ in, the seed and what a panel's title says left out."""
    grouped: dict[tuple[tuple[str, str], ...], list[Cell]] = {}
    for cell in cells:
        axes = tuple((axis, value) for axis, value in cell.axes.items() if axis not in (SEED, *apart))
        grouped.setdefault(axes, []).append(cell)
    told = _telling([dict(axes) for axes in grouped])
    return [Design(_label(dict(axes), told), dict(axes), members) for axes, members in grouped.items()]


def _telling(designs: Sequence[Axes]) -> list[str]:
    """The axes in which the designs differ; one at least."""
    axes = list(dict.fromkeys(axis for design in designs for axis in design))
    return [axis for axis in axes if len({design.get(axis) for design in designs}) > 1] or axes[:1]


def _label(axes: Axes, told: Sequence[str]) -> str:
    return " · ".join(_said(axis, axes[axis]) for axis in told if axis in axes) or " · ".join(axes.values()) or "run"


def _said(axis: str, value: str) -> str:
    return f"{axis} {value}" if value.replace(".", "", 1).isdigit() else value
