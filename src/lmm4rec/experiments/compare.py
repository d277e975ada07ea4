"""Comparison of several runs on the same data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmm4rec.data.splits import PARTS
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.conf.spec import Table, load_spec
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.report.run_report import write_run_report
from lmm4rec.experiments.result import Result
from lmm4rec.experiments.run import run


@dataclass(frozen=True)
class ComparedRun:
    """One line of a comparison: a label and what to run for it."""

    label: str
    conf: str | Path | Table
    overrides: Mapping[str, Any]


def compare(entries: Sequence[ComparedRun], out: Path, *, title: str, next_steps: Sequence[str] = ()) -> list[Result]:
    """The results of all entries, each run in a folder of its own under `out`, with one `report.html` about them.

    Finished runs are read, and interrupted ones resumed.

    Raises:
        ConfigError: before any work, where a conf is wrong or holds nothing out for validation or test.
    """
    for entry in entries:
        for part in PARTS:
            make_plan(load_spec(entry.conf, entry.overrides)).require_share(part, "a comparison measures on it")
    data = DataCache()
    results = []
    for entry in entries:
        folder = out / _slug(entry.label)
        begun = RunFolder(folder).experiment.exists()
        results.append(run(entry.conf, entry.overrides, out=folder, resume=begun, data=data))
    labels = [entry.label for entry in entries]
    split = data.split(results[0].plan)
    write_run_report(out / "report.html", results, labels, split, title=title, next_steps=next_steps)
    return results


def _slug(label: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in label.lower()).split())
