"""What a worker process does before and around its jobs."""

from __future__ import annotations

import io
import logging
import os
import pickle
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from lmm4rec.core.progress import quiet
from lmm4rec.distributed.pool import Job, WorkerOptions

_WATCH_S = 1.0


def start_local_worker(options: WorkerOptions, parent: int) -> None:
    """Set up a process of this machine, which ends with its parent, however that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # its parent hears an interruption too, and ends it
    threading.Thread(target=_exit_with_parent, args=(parent,), daemon=True).start()
    _set_up(options)


def do_job(options: WorkerOptions, job: Job, *inputs: object) -> object:
    """The value of a job, in a worker of any kind; `inputs` are the values of the job's, where they are done."""
    _set_up(options)
    with quiet():
        return job.do(*inputs)


def do_pickled_job(options: WorkerOptions, search_path: Sequence[str], job: bytes, *inputs: object) -> object:
    """The value of a pickled job, in a worker that another program started: it may know fewer folders of modules."""
    sys.path += [folder for folder in search_path if folder not in sys.path and Path(folder).exists()]
    return do_job(options, pickle.loads(job), *inputs)


@cache
def _set_up(options: WorkerOptions) -> None:
    torch.set_num_threads(options.threads)
    if options.logs is not None:
        _log_to(options.logs / f"{socket.gethostname()}-{os.getpid()}.log")


def _log_to(path: Path) -> None:
    """Send the output of this process, bars of libraries included, to a file: only the parent uses the terminal."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # what a killed worker has printed is in its log
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)


def _exit_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os._exit(1)
