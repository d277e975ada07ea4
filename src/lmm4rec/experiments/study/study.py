"""Study: every combination of its axes' values, run by several workers."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmm4rec.core.device import threads
from lmm4rec.experiments.conf.spec import Table, read_conf
from lmm4rec.experiments.study.cells import Cell, make_cells
from lmm4rec.experiments.study.folder import StudyFolder, open_study
from lmm4rec.experiments.study.spec import StudySpec, load_study
from lmm4rec.experiments.study.workers import do_tasks, run_workers


@dataclass(frozen=True)
class StudyResult:
    """The outcome of a study."""

    folder: StudyFolder
    done: Sequence[str]  # names of cells
    failed: Sequence[str]  # names of cells that have no result, because of themselves or of an earlier task


def study(
    conf: str | Path | Table,
    overrides: Table | None = None,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    workers: int | None = None,
) -> StudyResult:
    """Run every cell of a study conf that is not finished yet, several at a time.

    `overrides` are dotted keys (`{"axes.seed": [0], "train.epochs": 5}`).
    `out` is the study folder (default `runs/NAME`). `workers` are processes on this machine (default: `worker_count`);
    0 works in this process. Other machines join by the same call with `resume` on the same folder.

    Raises:
        ConfigError: before any work, where the conf is wrong or the folder taken.
    """
    spec = load_study(conf, overrides)
    cells = make_cells(spec)
    folder = open_study(spec, cells, Path(out) if out else None, resume=resume)
    since = folder.locks.now()
    count = worker_count(spec, cells) if workers is None else workers
    if count:
        name, tables = read_conf(conf, overrides)
        run_workers({"title": name, **tables}, folder, count, since)
    else:
        with threads(spec.options.threads):
            do_tasks(cells, folder, spec.search, since)
    done = [cell.name for cell in cells if folder.cell(cell.name).is_finished]
    return StudyResult(folder, done, [cell.name for cell in cells if cell.name not in done])


def worker_count(spec: StudySpec, cells: Sequence[Cell]) -> int:
    """The default number of workers: that of [study], or as many as the cores hold at [study] `threads` each."""
    return min(spec.options.workers or max(1, (os.cpu_count() or 1) // spec.options.threads), len(cells))
