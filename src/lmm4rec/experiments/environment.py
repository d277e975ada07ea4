"""Environment and cost of a run."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from lmm4rec.core.files import read_json, write_json
from lmm4rec.core.registry import plugins

_PACKAGES = (
    "lmm4rec", "torch", "numpy", "scipy", "numba", "polars", "pillow", "safetensors", "transformers",
    "sentence-transformers",
)  # fmt: skip
_SAVE_EVERY_S = 1.0


def environment() -> dict[str, Any]:
    """Versions, machine, commit and command line, as `environment.json` holds them."""
    return {
        "command": sys.argv,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "plugins": plugins(),
        "machine": {
            "system": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "",
        },
        "commit": _commit(),
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _commit() -> str:
    """The commit of the checkout that the package runs from; empty where it was installed from a wheel."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        answer = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:  # no git on this machine
        return ""
    return answer.stdout.strip()


class Cost:
    """Seconds by phase and peak memory of a run, from its first start, however often it is resumed.

    With a `file` they are saved there at the end of a phase, and counted on from there.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._file, self._began, self._saved = file, time.monotonic(), time.monotonic()
        self._running: dict[str, float] = {}  # phase -> when it began
        before = read_json(file) if file and file.exists() else {}
        self.seconds: dict[str, float] = before.get("seconds", {})
        self._total_before: float = before.get("total", 0.0)
        self._peak_before: float = before.get("peak_memory_mb", 0.0)
        _reset_peak()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Add the block's seconds to a phase; phases may stand in each other."""
        self._running[name] = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self._seconds()[name]
            del self._running[name]
            self.save()

    def summary(self) -> dict[str, float]:
        """`seconds` in all, `<phase>_seconds`, and `peak_memory_mb` of the process."""
        phases = {f"{name}_seconds": round(seconds, 3) for name, seconds in self._seconds().items()}
        return {"seconds": round(self._total(), 3), **phases, "peak_memory_mb": round(self._peak(), 1)}

    def save(self) -> None:
        """Write the file, unless that was done within the last second."""
        if self._file and time.monotonic() - self._saved >= _SAVE_EVERY_S:
            state = {"seconds": self._seconds(), "total": self._total(), "peak_memory_mb": self._peak()}
            write_json(self._file, state)
            self._saved = time.monotonic()

    def _seconds(self) -> dict[str, float]:
        """The seconds of all phases, up to now for those that are running."""
        now, seconds = time.monotonic(), dict(self.seconds)
        for name, began in self._running.items():
            seconds[name] = seconds.get(name, 0.0) + now - began
        return seconds

    def _total(self) -> float:
        return self._total_before + time.monotonic() - self._began

    def _peak(self) -> float:
        return max(self._peak_before, _peak_mb())


def _reset_peak() -> None:
    """Reset the process's peak where the system can (Linux), so that a run's peak is its own."""
    control = Path("/proc/self/clear_refs")
    if control.exists() and os.access(control, os.W_OK):
        control.write_text("5")


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    for line in status.read_text().splitlines() if status.exists() else []:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    scale = 1024**2 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
