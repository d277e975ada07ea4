"""Pool of processes of this machine."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
import os
import signal
from concurrent.futures import Future
from typing import Any

from pebble import ProcessExpired, ProcessPool

from lmm4rec.distributed.pool import Died, Job, Outcome, Pool, WorkerOptions
from lmm4rec.distributed.worker import do_job, start_local_worker


class LocalPool(Pool):
    """A pool of processes; one that dies is replaced."""

    def __init__(self, workers: int, options: WorkerOptions) -> None:
        super().__init__(options)
        self._workers = workers
        self._running: dict[Future[Any], Job] = {}
        self._pool = ProcessPool(
            workers,
            context=multiprocessing.get_context("spawn"),
            initializer=start_local_worker,
            initargs=(options, os.getpid()),
        )

    @property
    def slots(self) -> int:
        """The number of processes."""
        return self._workers

    def begin(self, job: Job) -> None:
        """Begin a job as soon as a process is free."""
        self._running[self._pool.schedule(do_job, args=(self.options, job))] = job

    def wait(self) -> Outcome | Died:
        """Wait for the next job that ends, or whose process died."""
        done, _ = concurrent.futures.wait(self._running, return_when=concurrent.futures.FIRST_COMPLETED)
        future = next(iter(done))
        job = self._running.pop(future)
        try:
            return Outcome(job, future.result())
        except ProcessExpired as error:
            return Died(job, _ending(error.exitcode))
        except Exception as error:  # noqa: BLE001 - the caller's to judge
            return Outcome(job, error=error)

    def close(self, *, at_once: bool) -> None:
        """End the processes."""
        if at_once:
            self._pool.stop()  # type: ignore[no-untyped-call]
        else:
            self._pool.close()  # type: ignore[no-untyped-call]
        self._pool.join()


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    hint = " (out of memory? Fewer --workers need less)" if code == -signal.SIGKILL else ""
    return f"ended with signal {-code}, {signal.Signals(-code).name}{hint}"
