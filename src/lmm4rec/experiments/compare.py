"""Several runs on the same data, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmm4rec.experiments.build.workbench import Workbench
from lmm4rec.experiments.conf.spec import Table
from lmm4rec.experiments.folder import RunFolder
from lmm4rec.experiments.report.run_report import write_run_report
from lmm4rec.experiments.result import Result
from lmm4rec.experiments.run import run


@dataclass(frozen=True)
class Entry:
    """One line of a comparison: a label and what to run for it."""

    label: str
    conf: str | Path | Table
    overrides: Mapping[str, Any]


def compare(entries: Sequence[Entry], out: Path, *, title: str, next_steps: Sequence[str] = ()) -> list[Result]:
    """Run all entries, each in a folder of its own under `out`, and write `report.html` about them together.

    What is already there is not run again, so an interrupted comparison goes on when it is called again.
    """
    bench = Workbench()
    results = []
    for entry in entries:
        folder = out / _slug(entry.label)
        begun = RunFolder(folder).experiment.exists()
        results.append(run(entry.conf, entry.overrides, out=folder, resume=begun, workbench=bench))
    labels = [entry.label for entry in entries]
    split = bench.split(results[0].plan)
    write_run_report(out / "report.html", results, labels, split, title=title, next_steps=next_steps)
    return results


def _slug(label: str) -> str:
    words = "".join(letter if letter.isalnum() else " " for letter in label.lower()).split()
    return "-".join(words)
