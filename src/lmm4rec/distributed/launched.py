"""What a process knows of the launcher that started it as one of several; without torch, as it is read at the start."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

LAUNCHER = "LMM4REC_LAUNCHER"  # the process id of the launcher, in the environment of what it launched
LOST = 75  # the exit status of a process that ended because another one had (EX_TEMPFAIL)


def is_launched() -> bool:
    """Whether this process is one of those of `launch.run_in_processes`, which reports the errors of all."""
    return LAUNCHER in os.environ


def end_with_launcher() -> None:
    """Let the system end this process with SIGTERM where its launcher dies, on Linux."""
    if is_launched() and sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
        if os.getppid() != int(os.environ[LAUNCHER]):  # it died before
            sys.exit(LOST)
