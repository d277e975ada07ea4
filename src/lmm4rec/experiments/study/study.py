"""Study: every combination of its axes' values, run by a pool of workers."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lmm4rec.core.device import threads
from lmm4rec.core.files import write_json
from lmm4rec.core.folder_lock import locked_folder
from lmm4rec.core.progress import progress
from lmm4rec.distributed.pool import Job, WorkerOptions, open_pool
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.checks import require_stores
from lmm4rec.experiments.conf.spec import Table, read_conf
from lmm4rec.experiments.remote_copy import RemoteCopy, copied
from lmm4rec.experiments.study.cells import Cell, make_cells
from lmm4rec.experiments.study.folder import StudyFolder, open_study, study_folder
from lmm4rec.experiments.study.reference import check_reference
from lmm4rec.experiments.study.resume import check_resumed
from lmm4rec.experiments.study.spec import StudySpec, load_study
from lmm4rec.experiments.study.tasks import Task, study_tasks
from lmm4rec.features.store import FeatureStore


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
    cluster: str = "",
) -> StudyResult:
    """Run every cell of a study conf that is not finished yet, several at a time; a failed one stops no other.

    `overrides` are dotted keys (`{"axes.seed": [0], "train.epochs": 5}`).
    `out` is the study folder (default `runs/NAME`), or an address to which a folder of the cache is copied after tasks.
    `workers` are processes on this machine (default: `worker_count`); 0 works in this process. `cluster` names a Ray
    cluster instead, whose machines share the study folder by a file system or, at an address, by the object store.

    Raises:
        ConfigError: before any work, where the conf is wrong, the folder taken, or the cluster cannot do it; or where
            cells of a resumed study were begun with another conf.
    """
    spec = load_study(conf, overrides)
    cells = make_cells(spec)
    require_stores(*(cell.plan for cell in cells))
    folder = study_folder(spec.name, out)
    check_reference(spec, cells, folder)
    advice = "wait until it ends; --status shows how far it is, --cluster puts more machines to work"
    with locked_folder(folder.path, doing="works on it", advice=advice):
        if folder.remote:
            folder.remote.begin(resume=resume)
        if resume:
            check_resumed(spec, cells, folder)
        open_study(spec, cells, folder.path, resume=resume)  # a folder that is refused is not copied
        name, tables = read_conf(conf, overrides)
        with copied(folder.remote):
            _do_tasks(spec, cells, folder, pickle.dumps({"title": name, **tables}), workers, cluster)
    done = [cell.name for cell in cells if folder.cell(cell.name).is_finished]
    return StudyResult(folder, done, [cell.name for cell in cells if cell.name not in done])


def worker_count(spec: StudySpec, cells: Sequence[Cell]) -> int:
    """The default number of workers: that of [study], or as many as the cores hold at [study] `threads` each."""
    return min(spec.options.workers or max(1, (os.cpu_count() or 1) // spec.options.threads), len(cells))


def _do_tasks(
    spec: StudySpec, cells: Sequence[Cell], folder: StudyFolder, conf: bytes, workers: int | None, cluster: str
) -> None:
    """Work until every cell is finished or has failed; what failed in an earlier call is tried once more."""
    by_store = folder.remote if cluster else None  # what the machines share
    jobs = _Jobs(study_tasks(cells, folder, spec.search), folder, conf, by_store.address if by_store else "")
    stores = FeatureStore().shared if any(cell.plan.encoder for cell in cells) else ()
    options = WorkerOptions(
        threads=spec.options.threads,
        gpus=spec.options.gpus,
        logs=None if by_store else folder.logs,
        shared=stores if by_store else (folder.path, *stores),
    )
    count = worker_count(spec, cells) if workers is None else workers
    try:
        with (
            threads(spec.options.threads),
            open_pool(count, cluster, options) as pool,
            progress(total=len(cells), description=spec.title, unit="cell") as bar,
        ):
            if by_store:
                by_store.leave(jobs.fetch_finished(by_store))
            bar.update(sum(folder.cell(cell.name).is_finished for cell in cells))
            for outcome in pool.run(jobs):
                if by_store and outcome.error is None:
                    by_store.fetch(jobs.place(outcome.job.name))
                jobs.end(outcome.job.name, outcome.error)
                if folder.remote:
                    folder.remote.copy_if_due()
                bar.update(sum(folder.cell(cell.name).is_finished for cell in cells) - bar.n)
    finally:
        folder.running.unlink(missing_ok=True)
        _tasks_of.cache_clear()


class _Jobs:
    """The jobs of a study: of every cell its next task, the first cells first; a task that cells share, once."""

    def __init__(self, tasks: Sequence[Sequence[Task]], folder: StudyFolder, conf: bytes, address: str) -> None:
        """`address` is that of the study's folder for workers that do not see it otherwise."""
        self._tasks, self._folder, self._conf = tasks, folder, conf
        self._place = address or str(folder.path.resolve())
        self._running: list[str] = []
        self._failed: set[str] = set()

    def __iter__(self) -> Iterator[Job | None]:
        while True:
            name = self._next_task()
            if name is None:
                yield None
                continue
            self._running.append(name)
            self._record()
            self._folder.failure(name).unlink(missing_ok=True)
            yield Job(name, _do_task, (self._conf, self._place, name))

    def place(self, name: str) -> str:
        """What a task writes, in the study's folder."""
        return next(task.place for of_cell in self._tasks for task in of_cell if task.name == name)

    def fetch_finished(self, remote: RemoteCopy) -> list[str]:
        """Copy to this machine what other ones have finished; the places of all other tasks."""
        there, left = set(remote.names()), []
        for task in {task.name: task for of_cell in self._tasks for task in of_cell}.values():
            if not task.is_done() and task.last in there:
                remote.fetch(task.place)
            if not task.is_done():
                left.append(task.place)
        return left

    def _next_task(self) -> str | None:
        for of_cell in self._tasks:
            task = next((task for task in of_cell if not task.is_done()), None)
            if task is not None and task.name not in self._failed and task.name not in self._running:
                return task.name
        return None

    def end(self, name: str, error: Exception | None) -> None:
        """The end of a task; a failure that its worker could not record is recorded here."""
        self._running.remove(name)
        self._record()
        if error is not None:
            self._failed.add(name)
            if not self._folder.failure(name).exists():
                self._folder.write_failure(name, error)

    def _record(self) -> None:
        write_json(self._folder.running, {"tasks": self._running})


def _do_task(conf: bytes, place: str, name: str) -> None:
    """Do a task of a study in a folder or at an address, in any process, and record its failure."""
    folder = study_folder("", place)
    tasks, data = _tasks_of(conf, place)
    try:
        tasks[name].work(data)
    except Exception as error:
        folder.write_failure(name, error)
        raise


@lru_cache(maxsize=1)
def _tasks_of(conf: bytes, place: str) -> tuple[dict[str, Task], DataCache]:
    """The tasks of a study by name, and the data that they share within a process."""
    spec = load_study(pickle.loads(conf))  # not TOML, which would write lists before tables, so axes in another order
    tasks = study_tasks(make_cells(spec), study_folder("", place), spec.search)
    return {task.name: task for of_cell in tasks for task in of_cell}, DataCache()
