"""Commands that several processes of this machine carry out together (`--processes`)."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path


def command_arguments(name: str, conf: Path, settings: Sequence[str] | None, out: str | Path | None) -> list[str]:
    """The arguments that start a command on a conf file in a process of its own."""
    arguments = [sys.executable, "-m", "lmm4rec.cli.app", name, str(conf)]
    arguments += [part for setting in settings or () for part in ("-s", setting)]
    return [*arguments, "-o", str(out)] if out else arguments


def run_or_exit(arguments: Callable[[bool], Sequence[str]], processes: int) -> None:
    """Run a command in several processes; exits with their status where it is an error.

    `arguments` takes whether it is a restart. Each process gets its share of the cores unless OMP_NUM_THREADS is set.
    """
    from lmm4rec.distributed.launch import run_in_processes

    if status := run_in_processes(arguments, processes):
        sys.exit(status)
