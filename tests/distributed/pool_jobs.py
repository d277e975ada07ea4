"""Jobs for the tests of pools: functions of a module, since other processes import them."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from lmm4rec.core.errors import DataError


def square(number: int) -> int:
    sys.stdout.write(f"the square of {number}\n")
    return number * number


def subtract(number: int, *others: int) -> int:
    return number - sum(others)


def fail(message: str) -> None:
    raise DataError(message)


def break_down() -> None:
    raise ZeroDivisionError("by zero")


def die_at_first(mark: Path) -> str:
    """Killed when it is done for the first time."""
    if mark.exists():
        return "done"
    mark.touch()
    die()
    return "never"


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def wait_for(mark: Path) -> str:
    """Waits until the file is there; says that it waits by a file beside."""
    mark.with_suffix(f".{os.getpid()}").touch()
    while not mark.exists():
        time.sleep(0.02)
    return "done"
