"""Workers of a study: they take tasks by locks in a shared folder until none is left; a failed one stops no other."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path

import torch

from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.progress import progress, quiet
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.conf.spec import Table
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.study.cells import Cell, make_cells
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.spec import load_study
from lmm4rec.experiments.study.tasks import Task, study_tasks

_WATCH_S, _WAIT_S = 1.0, 0.5


def do_tasks(cells: Sequence[Cell], folder: StudyFolder, search: SearchOptions | None, since: float) -> None:
    """Work until every cell is finished or has failed since a moment (what failed before is tried once more).

    Each task is the first open one in the order of cells, so that an interrupted study has its first cells finished.
    """
    data, tasks = DataCache(), study_tasks(cells, folder, search)
    while open_tasks := _open_tasks(tasks, folder, since):
        if not any(_try(task, folder, data, since) for task in open_tasks):
            time.sleep(_WAIT_S)  # for other workers


def _open_tasks(tasks: Sequence[Sequence[Task]], folder: StudyFolder, since: float) -> list[Task]:
    """The next task of every cell that still has one; a task that cells share, once."""
    found: dict[str, Task] = {}
    for of_cell in tasks:
        task = next((task for task in of_cell if not task.is_done()), None)
        if task is not None and not _has_failed(folder, task.name, since):
            found.setdefault(task.name, task)
    return list(found.values())


def _has_failed(folder: StudyFolder, task: str, since: float) -> bool:
    path = folder.failure(task)
    return path.exists() and path.stat().st_mtime >= since


def _try(task: Task, folder: StudyFolder, data: DataCache, since: float) -> bool:
    """Do the task, unless another worker holds or has done it; whether it was done here."""
    with folder.locks.hold(task.name) as held:
        if not held or task.is_done() or _has_failed(folder, task.name, since):
            return False
        with folder.recording(task.name), quiet():
            task.work(data)
    return True


def run_workers(study: Table, folder: StudyFolder, workers: int, since: float) -> None:
    """Do the tasks in `workers` processes; one that is killed is replaced, the task that it held recorded as failed.

    Raises:
        LMM4RecError: a worker process ended before it had begun a task.
    """
    spec = load_study(study)
    cells = make_cells(spec)
    context = multiprocessing.get_context("spawn")
    bar = progress(total=len(cells), description=spec.title, unit="cell")

    def start() -> tuple[BaseProcess, Event]:
        began = context.Event()
        process = context.Process(target=_work, args=(study, folder.path, since, os.getpid(), began))
        process.start()
        return process, began

    running = dict(start() for _ in range(workers))
    try:
        while running:
            time.sleep(_WATCH_S)
            bar.update(sum(folder.cell(cell.name).is_finished for cell in cells) - bar.n)
            for process in [process for process in running if process.exitcode is not None]:
                began = running.pop(process)
                if process.exitcode:
                    _record_crash(process, folder, has_begun=began.is_set())
                    running.update([start()])
    finally:
        bar.close()
        for process in running:
            process.terminate()
        for process in running:
            process.join()


def _record_crash(process: BaseProcess, folder: StudyFolder, *, has_begun: bool) -> None:
    """Record the failure of the task that a killed process held, since it could not do so itself.

    There is none where the process recorded it, or where another worker has found the lock of the dead one first and
    goes on with its task.

    Raises:
        LMM4RecError: the process ended before it had begun, so that another one would do the same.
    """
    code, pid = process.exitcode or 0, process.pid or 0
    how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"status {code}"
    hint = "; out of memory? Fewer --workers need less" if code == -signal.SIGKILL else ""
    left = folder.locks.left_by(pid)
    for task in left:
        logging.getLogger(__name__).warning("the worker at %s ended with %s", task, how)
        folder.write_failure(task, "WorkerDied", f"the worker process ended with {how}{hint}", pid=pid)
    if not left and not has_begun:
        raise LMM4RecError(f"a worker process ended with {how} before it had begun anything; try --workers 0")


def _work(study: Table, path: Path, since: float, parent: int, began: Event) -> None:
    """The work of a worker process; `began` is set before its first task."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # its parent reports an interruption
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    _log_to(path / "logs" / f"{socket.gethostname()}-{os.getpid()}.log")
    spec = load_study(study)
    torch.set_num_threads(spec.options.threads)
    cells = make_cells(spec)
    began.set()
    do_tasks(cells, StudyFolder(path), spec.search, since)


def _log_to(path: Path) -> None:
    """Send the output of this process, bars of libraries included, to a file: only the parent uses the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


def _exit_with_parent(parent: int) -> None:
    """Exit when the parent process is gone, however it ended."""
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)
