"""`lmm4rec serve` as a process of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx2 as httpx

import lmm4rec

TOKEN = "0123456789abcdef-token"
_START_S = 60


class Server:
    """A server over some runs; in a `with` it ends when the block does."""

    def __init__(self, runs: Sequence[Path], *options: str) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            self.port = one.getsockname()[1]
        self.rules: Path | None = None  # its rule file, where a test changes it
        self.url = f"http://127.0.0.1:{self.port}"
        arguments = ["serve", *map(str, runs), "--port", str(self.port), *options]
        code = f"from lmm4rec.cli.app import main; main({arguments!r})"
        source = str(Path(lmm4rec.__path__[0]).parent)
        env = os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1", "LMM4REC_TEST_TOKEN": TOKEN}
        self.process = subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Server:
        end = time.monotonic() + _START_S
        while time.monotonic() < end and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/ready").status_code == 200:
                    return self
            except httpx.TransportError:
                time.sleep(0.1)
        self.process.kill()
        raise AssertionError(f"the server did not start: {self.process.communicate()[1]}")

    def __exit__(self, *_: object) -> None:
        self.end(signal.SIGTERM)

    def end(self, how: signal.Signals) -> str:
        """Send a signal and wait; returns what was logged."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.communicate(timeout=30)[1]
