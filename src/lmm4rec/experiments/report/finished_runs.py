"""Finished runs in a report: a design is the runs that differ in the seed only, a group the designs to compare.

Titles of groups and labels of designs name only the differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Float64

from lmm4rec.core.errors import DataError
from lmm4rec.evaluation.standard_error import standard_error
from lmm4rec.experiments.result import Result, RunMetrics
from lmm4rec.experiments.study.axis_presets import SEED

Axes = Mapping[str, str]

TOTAL = "cost.total_seconds"  # of a run, and of computing its features where an earlier run did that


class GroupKey(NamedTuple):
    """The key of runs that can be compared: they share all of it."""

    split: str  # its fingerprint
    protocol: str
    candidates: str  # the items that are ranked


@dataclass(frozen=True)
class FinishedRun:
    """One finished run and its values on the axes of a study."""

    name: str
    axes: Axes
    result: Result

    @property
    def measured(self) -> RunMetrics:
        """The measurements of the run."""
        return self.result.measured

    @property
    def seed(self) -> int:
        """The training seed."""
        return self.result.plan.train.seed

    @property
    def group(self) -> GroupKey:
        """The key of the group whose runs it can be compared with."""
        evaluate = self.result.plan.evaluate
        return GroupKey(self.measured.data.split_fingerprint, evaluate.protocol, evaluate.candidates)

    @cached_property
    def numbers(self) -> Mapping[str, float]:
        """Every number of metrics.json by dotted name, such as `test.recall@20` or `cost.seconds`, and `TOTAL`."""
        numbers = dict(_numbers(self.measured.to_json(), ""))
        if "cost.seconds" in numbers:
            features, encode = (numbers.get(f"cost.{name}_seconds", 0.0) for name in ("features", "encode"))
            numbers[TOTAL] = numbers["cost.seconds"] + max(features - encode, 0.0)
        return numbers


def _numbers(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield f"{prefix}{key}", float(value)


@dataclass(frozen=True)
class Design:
    """The runs that differ in nothing but the seed."""

    label: str
    axes: Axes  # without the seed
    runs: Sequence[FinishedRun]

    @property
    def uses_content(self) -> bool:
        """Whether the recommender uses images, text or other content of the items."""
        return self.runs[0].result.plan.encoder is not None

    @property
    def is_deterministic(self) -> bool:
        """Whether every seed gives the same result, so that one run is enough."""
        return self.runs[0].result.plan.recommender.is_deterministic

    @property
    def lacks_seeds(self) -> bool:
        """Whether its spread over seeds is unknown: it depends on the seed and ran under one only."""
        return len(self.runs) == 1 and not self.is_deterministic

    def numbers(self, key: str) -> list[float]:
        """The number `key` of each run that has it."""
        return [run.numbers[key] for run in self.runs if key in run.numbers]

    def keys(self, prefix: str) -> list[str]:
        """The names of the numbers that begin with `prefix`."""
        return list(dict.fromkeys(key for run in self.runs for key in run.numbers if key.startswith(prefix)))

    def mean(self, key: str) -> float:
        """The mean over seeds; NaN where no run has the number."""
        values = self.numbers(key)
        return float(np.mean(values)) if values else float("nan")

    def error(self, key: str) -> float:
        """The standard error of the mean over seeds; NaN where fewer than two runs have the number."""
        values = self.numbers(key)
        return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")

    def per_user(self, metric: str) -> Float64[np.ndarray, "seeds users"]:
        """The test values of all users under all seeds, users in the order of their ids.

        Raises:
            DataError: the seeds were not measured on the same users.
        """
        first, *others = self._test_values
        if any(not frame["user"].equals(first["user"]) for frame in others):
            raise DataError(f"the runs of '{self.label}' were measured on different users and cannot be averaged")
        return np.stack([frame[metric].to_numpy() for frame in self._test_values])

    @property
    def has_error(self) -> bool:
        """Whether the test part has two users or more, of which a standard error can be computed."""
        return len(self._test_values[0]) > 1

    def mean_and_interval(self, metric: str) -> tuple[float, float, float]:
        """The test mean and its 95% interval over users and seeds; over users alone where the design has one seed.

        The ends of the interval are NaN where there is one user.
        """
        values = self.per_user(metric)
        mean = float(values.mean())
        if not self.has_error:
            return mean, math.nan, math.nan
        return mean, *standard_error(values.mean(0), [values]).interval(mean)

    @cached_property
    def _test_values(self) -> list[pl.DataFrame]:
        frames = (run.result.folder.scan_per_user().collect() for run in self.runs)
        return [frame.filter(pl.col("part") == "test").drop("part").sort("user") for frame in frames]


@dataclass(frozen=True)
class DesignGroup:
    """The designs that can be compared: the same split, protocol and candidates."""

    title: str
    designs: Sequence[Design]

    @property
    def has_errors(self) -> bool:
        """Whether its designs can be tested: all have two users or more in the test part, which they share."""
        return all(design.has_error for design in self.designs)

    def is_validated(self, metric: str) -> bool:
        """Whether anything was held out to validate the designs by, so that one of them can be the best by it."""
        return any(design.numbers(f"valid.{metric}") for design in self.designs)

    def best_first(self, key: str) -> list[Design]:
        """The designs by the mean of a number, the largest first; in their order where none has it."""
        return sorted(self.designs, key=lambda design: design.mean(key), reverse=True)


@dataclass(frozen=True)
class RunCollection:
    """All runs of one report."""

    title: str
    axes: Mapping[str, Sequence[str]]  # axis -> its values, in order; the seed is one
    groups: Sequence[DesignGroup]
    metric: str = "recall@20"
    reference: str = ""  # the label or folder name of a design; empty: the best by validation
    level: float = 0.05
    failures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    missing: Sequence[str] = ()  # planned runs without a result
    search: Mapping[str, Any] | None = None

    @property
    def designs(self) -> list[Design]:
        """The designs of all groups."""
        return [design for group in self.groups for design in group.designs]

    @property
    def runs(self) -> list[FinishedRun]:
        """The runs of all designs."""
        return [run for design in self.designs for run in design.runs]


def comparable_groups(runs: Sequence[FinishedRun]) -> list[DesignGroup]:
    """The runs in groups of the same split, protocol and candidates, each group by its designs."""
    by_key: dict[GroupKey, list[FinishedRun]] = {}
    for run in runs:
        by_key.setdefault(run.group, []).append(run)
    group_axes = _axes_between_groups(list(by_key.values()))
    titles = _titles(by_key, group_axes)
    return [DesignGroup(titles[key], _designs(members, group_axes)) for key, members in by_key.items()]


def _axes_between_groups(groups: Sequence[Sequence[FinishedRun]]) -> list[str]:
    """The axes that have one value in each group, and not the same in all; a group's title names them."""
    values = [{axis: {run.axes.get(axis) for run in runs} for axis in runs[0].axes} for runs in groups]
    first, *others = values
    return [
        axis
        for axis, of_first in first.items()
        if axis not in (SEED, "data", "protocol")
        and all(len(group.get(axis, ())) == 1 for group in values)
        and any(group[axis] != of_first for group in others)
    ]


def _titles(groups: Mapping[GroupKey, Sequence[FinishedRun]], group_axes: Sequence[str]) -> dict[GroupKey, str]:
    """The name of the data, and what else distinguishes the groups."""
    titles: dict[GroupKey, str] = {}
    for key, (run, *_) in groups.items():
        parts = [run.axes.get("data", run.measured.data.name)]
        parts += [f"{run.axes[axis]} {axis}" if axis.isalpha() else f"{axis} {run.axes[axis]}" for axis in group_axes]
        parts += [f"protocol {key.protocol}"] if len({other.protocol for other in groups}) > 1 else []
        parts += [f"ranked among {key.candidates} items"] if len({other.candidates for other in groups}) > 1 else []
        title = ", ".join(parts)
        titles[key] = title if title not in titles.values() else f"{title}, split {key.split[:6]}"
    return titles


def _designs(runs: Sequence[FinishedRun], group_axes: Sequence[str]) -> list[Design]:
    """The runs by their axes, except the seed and the axes that the group's title names."""
    by_axes: dict[tuple[tuple[str, str], ...], list[FinishedRun]] = {}
    for run in runs:
        axes = tuple((axis, value) for axis, value in run.axes.items() if axis not in (SEED, *group_axes))
        by_axes.setdefault(axes, []).append(run)
    varying = varying_axes([dict(axes) for axes in by_axes])
    return [Design(_label(dict(axes), varying), dict(axes), members) for axes, members in by_axes.items()]


def varying_axes(designs: Sequence[Axes]) -> list[str]:
    """The axes in which designs differ; the first axis where they differ in none."""
    axes = list(dict.fromkeys(axis for design in designs for axis in design))
    return [axis for axis in axes if len({design.get(axis) for design in designs}) > 1] or axes[:1]


def _label(axes: Axes, varying: Sequence[str]) -> str:
    values = [_with_axis(axis, axes[axis]) for axis in varying if axis in axes] or list(axes.values())
    return " · ".join(values) or "run"


def _with_axis(axis: str, value: str) -> str:
    """The value, a number with the name of its axis before it."""
    return f"{axis} {value}" if value.replace(".", "", 1).isdigit() else value
