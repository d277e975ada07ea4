"""Reproduction of a run: run again, and compared in metrics, data and environment."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import read_json, write_json
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.result import RunMetrics, read_result
from lmm4rec.experiments.run import run

TOLERANCE = 1e-6  # of metrics, all of which lie between 0 and 1


@dataclass(frozen=True)
class Difference:
    """A metric of both runs."""

    name: str
    before: float
    now: float

    @property
    def size(self) -> float:
        """The absolute difference."""
        return abs(self.now - self.before)


@dataclass(frozen=True)
class Reproduction:
    """The outcome of a reproduction."""

    out: Path
    compared: int  # metrics
    differences: list[Difference]  # beyond the tolerance, largest first
    largest: float  # of all
    tolerance: float
    same_split: bool
    changed: Mapping[str, tuple[str, str]]  # of the environment: before, now

    @property
    def succeeded(self) -> bool:
        """Whether data and numbers are the same, within the tolerance."""
        return self.same_split and not self.differences


def reproduce(folder: Path, *, out: Path | None = None, tolerance: float = TOLERANCE) -> Reproduction:
    """Run a finished run's `experiment.toml` again, into `out` (default: a new folder beside it), and compare.

    Validation and test metrics are compared one by one; costs are not. The outcome is written to `reproduction.json`.
    A reproduction that was interrupted goes on; a finished one is left as it is.

    Raises:
        CheckpointError: there is no finished run in the folder.
        ConfigError: the tolerance is no number from 0, the run measured nothing, or `out` holds a finished run.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise ConfigError(f"a tolerance is a number from 0, got {tolerance}")
    first = read_result(folder)
    if not (first.measured.valid or first.measured.test):
        raise ConfigError(f"{folder} was trained on everything and measured on nothing, so there is nothing to compare")
    place = out or _folder_beside(folder)
    if RunFolder(place).is_finished:
        raise ConfigError(f"{place} holds a finished run, and a reproduction trains anew; name another folder with -o")
    conf = {"title": first.plan.title, **first.plan.tables}
    again = run(conf, out=place, resume=(place / "experiment.toml").exists())
    pairs = _differences(first.measured, again.measured)
    beyond = [pair for pair in pairs if not pair.size <= tolerance]  # what is missing now is NaN, and beyond as well
    found = Reproduction(
        out=place,
        compared=len(pairs),
        differences=sorted(beyond, key=lambda pair: pair.size, reverse=True),
        largest=max(pair.size for pair in pairs),
        tolerance=tolerance,
        same_split=first.measured.data.split_fingerprint == again.measured.data.split_fingerprint,
        changed=_changed(read_json(first.folder.environment), read_json(again.folder.environment)),
    )
    write_json(place / "reproduction.json", {"of": str(folder), **_plain(found)})
    return found


def _folder_beside(run: Path) -> Path:
    """The first of RUN-again, RUN-again-2 and so on that holds no finished run."""
    names = (f"{run.name}-again{f'-{number}' if number > 1 else ''}" for number in count(1))
    return next(place for place in map(run.with_name, names) if not RunFolder(place).is_finished)


def _differences(first: RunMetrics, again: RunMetrics) -> list[Difference]:
    parts = {"valid": (first.valid, again.valid), "test": (first.test, again.test)}
    return [
        Difference(f"{part}.{name}", float(value), float(now.get(name, math.nan)))
        for part, (before, now) in parts.items()
        for name, value in before.items()
    ]


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Versions, machine and commit that are not the same."""
    flat_before, flat_now = _flat(before), _flat(now)
    names = [name for name in {**flat_before, **flat_now} if name not in ("command", "started")]
    pairs = {name: (flat_before.get(name, "-"), flat_now.get(name, "-")) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _flat(found: Mapping[str, Any]) -> dict[str, str]:
    pairs = [(name, value if isinstance(value, Mapping) else {"": value}) for name, value in found.items()]
    return {f"{name}.{key}".removesuffix("."): str(value) for name, inner in pairs for key, value in inner.items()}


def _plain(found: Reproduction) -> dict[str, Any]:
    return {
        "succeeded": found.succeeded,
        "compared": found.compared,
        "tolerance": found.tolerance,
        "largest_difference": found.largest,
        "same_split": found.same_split,
        "differences": {pair.name: [pair.before, pair.now] for pair in found.differences},
        "environment": {name: list(pair) for name, pair in found.changed.items()},
    }
