"""Several processes of one command on this machine, which form a process group."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch.distributed as dist

from lmm4rec.core.device import cores
from lmm4rec.distributed.launched import LAUNCHER, LOST

RESTARTS = 3
_GRACE_S = 10.0  # in which the others end by themselves once one has ended with an error
_POLL_S = 0.05


def run_in_processes(command: Callable[[bool], Sequence[str]], processes: int) -> int:
    """The exit status of a command that runs in several processes; 0 where all of them succeed.

    The first process writes to this one's output, and so do the others where one of them alone has an error. Where a
    process is killed, all start again, `RESTARTS` times at most; `command` takes whether it is a restart. Ctrl-C and
    SIGTERM are passed on to all processes.
    """
    for restart in range(RESTARTS + 1):
        status, killed = _run_once(command(restart > 0), processes)
        if killed is None:
            return status if status >= 0 else 128 - status
        what = f"process {killed + 1} of {processes} was killed by {signal.Signals(-status).name}"
        if restart < RESTARTS:
            logging.getLogger(__name__).warning(
                "%s: all processes start again from the last checkpoint (restart %d of %d)", what, restart + 1, RESTARTS
            )
    logging.getLogger(__name__).error(
        "%s %d times. The system kills processes where memory runs out: take fewer processes, "
        'train.shard = "rows" or a smaller recommender.dim. The same command goes on, a run with --resume',
        what, RESTARTS + 1,
    )  # fmt: skip
    return 128 - status


def _run_once(command: Sequence[str], processes: int) -> tuple[int, int | None]:
    """The exit status of the processes, negative where one was killed by a signal, and the number of that one."""
    # where the processes meet
    store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)  # type: ignore[attr-defined]
    shared = {"OMP_NUM_THREADS": str(max(1, cores() // processes))} | os.environ
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True"}
    shared |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes), LAUNCHER: str(os.getpid())}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as opened:
        outputs = [opened.enter_context((Path(folder) / str(rank)).open("wb")) for rank in range(1, processes)]
        running: list[subprocess.Popen[bytes]] = []
        with _passed_on(running) as signals:
            for rank, output in enumerate([None, *outputs]):
                environment = shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}
                running.append(subprocess.Popen(
                    command, env=environment, stdout=output, stderr=output, start_new_session=True
                ))  # fmt: skip
            statuses = _wait(running)
        failed = [rank for rank, status in enumerate(statuses) if status not in (0, LOST)]
        if not failed:
            if any(statuses):
                lost = " and ".join(str(rank + 1) for rank, status in enumerate(statuses) if status)
                logging.getLogger(__name__).error(
                    "process %s of %d lost the connection to the others, none of which failed. The same command goes "
                    "on, a run with --resume", lost, processes,
                )  # fmt: skip
            return max(statuses), None
        by_itself = [rank for rank in failed if statuses[rank] > 0] or failed
        first = by_itself[0]
        if statuses[first] > 0 and first > 0:
            sys.stderr.write((Path(folder) / str(first)).read_text(errors="replace"))
        return statuses[first], first if statuses[first] < 0 and not signals else None


def _wait(running: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """The exit statuses; once one has failed, the others have some seconds to end, and are killed then (`LOST`)."""
    failed_at: float | None = None
    killed: set[int] = set()
    try:
        while any(process.poll() is None for process in running):
            if failed_at is None and any(process.returncode for process in running):
                failed_at = time.monotonic()
            if failed_at is not None and time.monotonic() > failed_at + _GRACE_S:
                killed |= {rank for rank, process in enumerate(running) if process.poll() is None}
                for rank in killed:
                    running[rank].kill()
            time.sleep(_POLL_S)
    finally:
        for process in running:
            process.kill()
            process.wait()
    return [LOST if rank in killed else process.returncode for rank, process in enumerate(running)]


@contextmanager
def _passed_on(running: Sequence[subprocess.Popen[bytes]]) -> Iterator[list[int]]:
    """A context in which SIGINT and SIGTERM go to the processes; the signals that came."""
    came: list[int] = []

    def pass_on(number: int, *_: object) -> None:
        came.append(number)
        for process in running:
            process.send_signal(number if len(came) < 3 else signal.SIGKILL)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield came
    finally:
        for number, old in before.items():
            signal.signal(number, old)
