"""Pool on a Ray cluster: an existing one, or several nodes that are simulated on this machine."""

from __future__ import annotations

import logging
import math
import os
import pickle
import socket
import sys
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Any

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.distributed.cluster_checks import check_nodes
from lmm4rec.distributed.pool import Died, Job, Outcome, Pool, WorkerOptions
from lmm4rec.distributed.worker import do_pickled_job

_SIMULATED, _CLIENT = "local:", "ray://"
_CONNECT_S = 5.0  # Ray itself takes 81 s to find that nobody answers, and then ends the process


class RayPool(Pool):
    """A pool of Ray tasks, each on a node with room for it; where jobs occupy GPUs, of Ray actors that keep theirs."""

    def __init__(self, cluster: str, options: WorkerOptions) -> None:
        super().__init__(options)
        self._ray = _import_ray("ray")
        self._nodes: Any = None  # of a simulated cluster
        self._running: dict[Any, Job] = {}
        self._inputs = 0  # of a job, at most
        self._workers: dict[Any, list[Any]] = {}  # actors, and the tasks that each has
        self._starting: dict[Any, Any] = {}  # actors that are not yet placed on a node, by the task that ends with it
        self._waiting = deque[tuple[Job, Any]]()  # jobs for which no actor is free, and what is sent to it
        try:
            self._connect(cluster)
            check_nodes(self._ray, options)
            has_gpus = self._ray.cluster_resources().get("GPU", 0) > 0
            self._gpus = float(has_gpus) if options.gpus == "auto" else options.gpus
            do = self._ray.remote(do_pickled_job)
            self._do_job = do.options(num_cpus=options.threads, max_retries=0)
            self._do_input = do.options(num_cpus=options.threads, max_retries=options.retries)
            self._worker = self._ray.remote(JobWorker)
        except BaseException:
            self.close(at_once=True)
            raise

    def _connect(self, cluster: str) -> None:
        if cluster.startswith(_SIMULATED):
            self._nodes = simulated_nodes(cluster, self.options)
            cluster = self._nodes.address
        try:
            address = _found_here() if cluster == "auto" else cluster
            _require_reachable(cluster, address)
            quiet = {} if address.startswith(_CLIENT) else {"logging_level": logging.ERROR}  # a server refuses it
            self._ray.init(address=cluster, log_to_driver=False, **quiet)
        except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
            raise _no_cluster(cluster, str(error).strip().splitlines()[0]) from None

    @property
    def slots(self) -> int:
        """The number of jobs that the cluster's cores and GPUs hold now, and of those whose inputs they hold."""
        found = self._ray.cluster_resources()
        by_cores = found.get("CPU", 0) // self.options.threads
        if not self._gpus:
            return int(by_cores)
        ahead = math.ceil(by_cores / self._inputs) if self._inputs else 0
        return int(min(by_cores, found.get("GPU", 0) / self._gpus)) + ahead

    @property
    def does_inputs_apart(self) -> bool:
        """Where jobs occupy GPUs: cores of any node then do the inputs of the next jobs."""
        return self._gpus > 0

    def begin(self, job: Job) -> None:
        """Begin a job as soon as a node has room for it, and its inputs at once."""
        apart = job.inputs if self.does_inputs_apart else ()
        self._inputs = max(self._inputs, len(apart))
        inputs = [self._do_input.remote(self.options, sys.path, pickle.dumps(one)) for one in apart]
        sent = self.options, sys.path, pickle.dumps(replace(job, inputs=()) if inputs else job), *inputs
        if self._gpus:
            self._waiting.append((job, sent))
            self._send_waiting()
        else:
            self._running[self._do_job.remote(*sent)] = job

    def wait(self) -> Outcome | Died:
        """Wait for the next job that ends, or whose worker or node died."""
        while True:
            (done,), _ = self._ray.wait([*self._running, *self._starting], num_returns=1)
            if done in self._running:
                return self._ended(done)
            has_started = self._has_started(self._starting.pop(done), done)
            job = None if has_started or not self._waiting else self._waiting.popleft()[0]
            self._send_waiting()
            if job is not None:
                return Died(job, "none could be started on a GPU")

    def _ended(self, task: Any) -> Outcome | Died:
        """The end of a task."""
        job = self._running.pop(task)
        worker = next((worker for worker, tasks in self._workers.items() if task in tasks), None)
        if worker is not None:
            self._workers[worker].remove(task)
        try:
            return Outcome(job, self._ray.get(task))
        except self._ray.exceptions.RayTaskError as error:
            return Outcome(job, error=error.cause if isinstance(error.cause, Exception) else error)
        except self._ray.exceptions.RayError as error:
            self._workers.pop(worker, None)
            return Died(job, _ending(error))
        finally:
            self._send_waiting()

    def _send_waiting(self) -> None:
        """Send waiting jobs to actors, two at most to each: one that it does, and the next one."""
        if not self._gpus:
            return
        wanted = max(1, int(self._ray.cluster_resources().get("GPU", 0) / self._gpus))
        # beside jobs with inputs they take no core: where they took all, the inputs would wait forever
        cores = 0 if self._inputs else self.options.threads
        while self._waiting and len(self._workers) + len(self._starting) < wanted:
            worker = self._worker.options(num_cpus=cores, num_gpus=self._gpus).remote()
            self._starting[worker.start.remote()] = worker
        while self._waiting and min(map(len, self._workers.values()), default=2) < 2:
            job, sent = self._waiting.popleft()
            worker = min(self._workers, key=lambda one: len(self._workers[one]))
            task = worker.do.remote(*sent)
            self._workers[worker].append(task)
            self._running[task] = job

    def _has_started(self, worker: Any, task: Any) -> bool:
        """Whether an actor is there for jobs, now that its first task has ended."""
        try:
            self._ray.get(task)
        except self._ray.exceptions.RayError:
            return False
        self._workers[worker] = []
        return True

    def close(self, *, at_once: bool) -> None:
        """Leave the cluster, and end what is being done; a simulated cluster ends too."""
        for task in self._running:
            with suppress(Exception):
                self._ray.cancel(task, force=True)
        for worker in (*self._workers, *self._starting.values()):
            with suppress(Exception):
                self._ray.kill(worker)
        if self._ray.is_initialized():
            self._ray.shutdown()
        if self._nodes is not None:
            self._nodes.shutdown()


class JobWorker:
    """An actor that does jobs one after the other, so that what a job loads is there for the next one."""

    def start(self) -> None:
        """Nothing: this task ends when the actor is on a node."""

    def do(self, *sent: Any) -> object:
        """The value of a pickled job."""
        return do_pickled_job(*sent)


def _import_ray(module: str) -> Any:
    """A module of Ray, which does not print dumps of its own where a node dies: the pool reports deaths."""
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")
    return optional(module, extra="ray", purpose="a cluster")


def simulated_nodes(cluster: str, options: WorkerOptions) -> Any:
    """A cluster of nodes on this machine, each with the cores of one job: `local:3`."""
    count = cluster.removeprefix(_SIMULATED)
    if not (count.isdecimal() and int(count)):
        raise ConfigError(f"'{cluster}' simulates no cluster: local:3 simulates three nodes on this machine")
    nodes = _import_ray("ray.cluster_utils").Cluster(
        initialize_head=True, head_node_args={"num_cpus": options.threads, "include_dashboard": False}
    )
    for _ in range(int(count) - 1):
        nodes.add_node(num_cpus=options.threads)
    return nodes


def _found_here() -> str:
    """The address that `auto` stands for: that of RAY_ADDRESS, or of a cluster whose node this machine is or was."""
    # nothing public tells it; where that is gone from Ray, all that is lost is a quick error
    found = getattr(_import_ray("ray._private.services"), "canonicalize_bootstrap_address_or_die", lambda auto: auto)
    return os.environ.get("RAY_ADDRESS") or str(found("auto"))


def _require_reachable(cluster: str, address: str) -> None:
    """Check that something answers at `host:port` or `ray://host:port`; other addresses are Ray's to judge."""
    host, colon, port = address.removeprefix(_CLIENT).rpartition(":")
    if not (host and colon and port.isdecimal()):
        return
    try:
        socket.create_connection((host, int(port)), _CONNECT_S).close()
    except (OSError, OverflowError) as error:
        reason = str(error) if address == cluster else f"{address}: {error}"
        raise _no_cluster(cluster, reason) from None


def _no_cluster(cluster: str, reason: str) -> ConfigError:
    return ConfigError(
        f"no Ray cluster could be reached at '{cluster}' ({reason}): start one with `ray start --head`, name its "
        "address (host:6379, or auto on a machine of it), or take local:3 for three nodes simulated on this machine"
    )


def _ending(error: Exception) -> str:
    """How a worker ended, in the first line of Ray's error or the one that names a cause."""
    kind = type(error).__name__
    crashed = "ended in the middle of its work; out of memory, or its node ended"
    ways = {
        "NodeDiedError": "its node ended or was cut off",
        "OutOfMemoryError": "its node ran out of memory",
        "WorkerCrashedError": crashed,
        "ActorDiedError": crashed,
    }
    return ways.get(kind) or f"{kind}: {str(error).strip().splitlines()[0]}"
