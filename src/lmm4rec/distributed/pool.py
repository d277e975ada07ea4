"""Pool: workers for independent jobs; in this process, in processes of this machine, or on a Ray cluster.

Callers hand over functions and arguments and do not ask where they run.
"""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.progress import quiet

RETRIES = 2


logger = logging.getLogger(__name__)


class WorkerDiedError(LMM4RecError):
    """A worker process, or its machine, ended in the middle of a job, as often as the job may be tried."""


@dataclass(frozen=True)
class Job:
    """A call of a module's function; arguments and value are pickled where another process does it.

    A job may be done more than once: its worker can die after the last step. What it writes must then be the same.

    The values of its `inputs` are its last arguments. Where jobs occupy GPUs, other workers do these before it begins.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    inputs: tuple[Job, ...] = ()

    def do(self, *inputs: Any) -> Any:
        """The value, from those of its inputs; these are done here where none are given."""
        return self.function(*self.arguments, *(inputs or (one.do() for one in self.inputs)))


@dataclass(frozen=True)
class Outcome:
    """The end of a job: its value, or the error that it raised."""

    job: Job
    value: Any = None
    error: Exception | None = None

    def result(self) -> Any:
        """The value; raises the error where there is one."""
        if self.error is not None:
            raise self.error
        return self.value


@dataclass(frozen=True)
class Died:
    """The end of a job's worker in the middle of it, and how it ended."""

    job: Job
    how: str


@dataclass(frozen=True)
class WorkerOptions:
    """What each job takes, and how its worker is set up."""

    threads: int = 1  # of the CPU; on a cluster, cores that a job occupies
    gpus: float | Literal["auto"] = "auto"  # of a cluster that a job occupies; auto: one where it has any
    logs: Path | None = None  # folder for the output of workers, a file for each
    retries: int = RETRIES  # of a job whose worker died; one that raises an error is not tried again
    shared: tuple[Path, ...] = ()  # folders that the machines of a cluster must share


class Pool(ABC):
    """Workers. Use it as a context: leaving it ends them, and with an error also what they are doing."""

    def __init__(self, options: WorkerOptions) -> None:
        self.options = options

    @property
    @abstractmethod
    def slots(self) -> int:
        """The number of jobs that can be done at the same time now."""

    @property
    def does_inputs_apart(self) -> bool:
        """Whether other workers than that of a job do its inputs."""
        return False

    @abstractmethod
    def begin(self, job: Job) -> None:
        """Begin a job as soon as a worker is free."""

    @abstractmethod
    def wait(self) -> Outcome | Died:
        """Wait for the next job that ends, or whose worker died."""

    @abstractmethod
    def close(self, *, at_once: bool) -> None:
        """End the workers, without waiting for what they do where `at_once`."""

    def run(self, jobs: Iterable[Job | None]) -> Iterator[Outcome]:
        """The outcomes of jobs as they end, in any order.

        The next job is drawn when a worker is free for it, so that it may depend on earlier outcomes; None says that
        there is none before another outcome. A job whose worker died is begun again, `retries` times.
        """
        drawn, tried = iter(jobs), dict[str, int]()  # name -> times
        while True:
            while len(tried) < max(1, self.slots) and (job := next(drawn, None)) is not None:
                tried[job.name] = 1
                self.begin(job)
            if not tried:
                return
            ended = self.wait()
            if isinstance(ended, Died) and tried[ended.job.name] <= self.options.retries:
                logger.warning("%s: its worker died (%s); it is begun again", ended.job.name, ended.how)
                tried[ended.job.name] += 1
                self.begin(ended.job)
                continue
            del tried[ended.job.name]
            yield ended if isinstance(ended, Outcome) else _given_up(ended, self.options.retries)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(at_once=kind is not None)


class SerialPool(Pool):
    """A pool without workers: each job is done in this process, when its outcome is asked for."""

    def __init__(self, options: WorkerOptions) -> None:
        super().__init__(options)
        self._jobs: list[Job] = []

    @property
    def slots(self) -> int:
        """One."""
        return 1

    def begin(self, job: Job) -> None:
        """Keep the job for `wait`."""
        self._jobs.append(job)

    def wait(self) -> Outcome:
        """Do the next job; an error of no known kind ends the caller, with its own traceback."""
        job = self._jobs.pop(0)
        try:
            with quiet():
                return Outcome(job, job.do())
        except LMM4RecError as error:
            return Outcome(job, error=error)

    def close(self, *, at_once: bool) -> None:
        """Nothing: there are no workers."""


def _given_up(died: Died, retries: int) -> Outcome:
    often = "the worker process" if not retries else f"each of {retries + 1} worker processes"
    return Outcome(died.job, error=WorkerDiedError(f"{often} {died.how}"))


def open_pool(workers: int, cluster: str = "", options: WorkerOptions | None = None) -> Pool:
    """A pool on a cluster where one is named, else of `workers` processes of this machine, 0: of this process alone.

    Raises:
        ConfigError: there is no such cluster, or a machine of it cannot do the jobs; it says which and why.
        MissingExtraError: Ray is not installed.
    """
    options = options or WorkerOptions()
    if cluster:
        from lmm4rec.distributed.ray_pool import RayPool

        return RayPool(cluster, options)
    if workers:
        from lmm4rec.distributed.local_pool import LocalPool

        return LocalPool(workers, options)
    return SerialPool(options)
