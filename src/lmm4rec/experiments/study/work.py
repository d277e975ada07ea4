"""Carrying a study out: workers take stages from a shared folder until none is left; a failed one stops no other."""

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
from pathlib import Path

import torch

from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.progress import progress, quiet
from lmm4rec.experiments.build.workbench import Workbench
from lmm4rec.experiments.conf.spec import Table
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.study.cells import Cell, make_cells
from lmm4rec.experiments.study.claims import wait_a_moment
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.spec import load_study
from lmm4rec.experiments.study.stages import Stage, plan_work

_WATCH_S = 1.0


def carry_out(cells: Sequence[Cell], folder: StudyFolder, search: SearchOptions | None, since: float) -> None:
    """Work until every cell is done or has failed since a moment (what failed before is tried once more)."""
    bench = Workbench()
    work = plan_work(cells, folder, search)
    while open_stages := _open_stages(work, folder, since):
        moved = [_try(stage, folder, bench, since) for stage in open_stages]
        if not any(moved):
            wait_a_moment()


def _open_stages(work: Sequence[Sequence[Stage]], folder: StudyFolder, since: float) -> list[Stage]:
    """The next stage of every cell that still has one; the stages that cells share, once."""
    found: dict[str, Stage] = {}
    for stages in work:
        stage = next((stage for stage in stages if not stage.is_done()), None)
        if stage is not None and not has_failed(folder, stage.name, since):
            found.setdefault(stage.name, stage)
    return list(found.values())


def has_failed(folder: StudyFolder, stage: str, since: float) -> bool:
    """Whether the stage failed since a moment."""
    path = folder.failure(stage)
    return path.exists() and path.stat().st_mtime >= since


def _try(stage: Stage, folder: StudyFolder, bench: Workbench, since: float) -> bool:
    """Do the stage, if nobody else is at it or was in the meantime; whether it was done here."""
    with folder.claims.take(stage.name) as mine:
        if not mine or stage.is_done() or has_failed(folder, stage.name, since):
            return False
        with folder.recording(stage.name), quiet():
            stage.carry_out(bench)
    return True


def run_workers(study: Table, folder: StudyFolder, workers: int, since: float) -> None:
    """The same by `workers` processes; one that is killed is replaced, what it was at is recorded as failed.

    Raises:
        LMM4RecError: a worker ended before it had begun anything.
    """
    spec = load_study(study)
    cells = make_cells(spec)
    context = multiprocessing.get_context("spawn")
    bar = progress(total=len(cells), description=spec.title, unit="cell")

    def start() -> BaseProcess:
        process = context.Process(target=_worker, args=(study, folder.path, since, os.getpid()))
        process.start()
        return process

    running = [start() for _ in range(workers)]
    try:
        while running:
            time.sleep(_WATCH_S)
            bar.update(sum(folder.cell(cell.name).is_finished for cell in cells) - bar.n)
            for process in [process for process in running if process.exitcode is not None]:
                running.remove(process)
                if process.exitcode:
                    _bury(process, folder, since)
                    running.append(start())
    finally:
        bar.close()
        for process in running:
            process.terminate()
        for process in running:
            process.join()


def _bury(process: BaseProcess, folder: StudyFolder, since: float) -> None:
    """Record what a process that died was at, where it could not do so itself."""
    code, pid = process.exitcode or 0, process.pid or 0
    how = f"signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"status {code}"
    hint = "; out of memory? Fewer --workers need less" if code == -signal.SIGKILL else ""
    left = folder.claims.left_by(pid)
    for stage in left:
        logging.getLogger(__name__).warning("the worker at %s ended with %s", stage, how)
        folder.write_failure(stage, "WorkerDied", f"the worker process ended with {how}{hint}", pid=pid)
    if not left and not any(failed["pid"] == pid and failed["when"] >= since for failed in folder.failures().values()):
        raise LMM4RecError(f"a worker process ended with {how} before it had begun anything; try --workers 0")


def _worker(study: Table, path: Path, since: float, parent: int) -> None:
    """What a worker process does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # its parent tells of an interruption
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    _log_to(path / "logs" / f"{socket.gethostname()}-{os.getpid()}.log")
    spec = load_study(study)
    torch.set_num_threads(spec.options.threads)
    carry_out(make_cells(spec), StudyFolder(path), spec.search, since)


def _log_to(path: Path) -> None:
    """Send all that this process says, its libraries' bars included, to a file: a terminal is for one voice."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")


def _end_with(parent: int) -> None:
    """End this process when its parent is no more, however that ended."""
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)
