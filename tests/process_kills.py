"""A process that is killed in the middle of its work."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable


def kill_when(ready: Callable[[], bool], process: subprocess.Popen[bytes], *, seconds: float) -> None:
    """Kill the process with SIGKILL as soon as it is `ready`, or after that many seconds."""
    deadline = time.monotonic() + seconds
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert process.poll() is None, "it ended before it could be killed"
    process.kill()
    process.wait()
