"""Estimate of a piece of work: passes through an encoder, time, memory and disk."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from lmm4rec.core.progress import is_quiet
from lmm4rec.distributed import process_group

MB = 2**20
_BESIDE = "Python and torch take about 400 MB more"
COPIES = 5  # of what trains: the weights, their gradient, Adam's two moments, the best weights so far


@dataclass(frozen=True)
class Estimate:
    """The cost of some work at most (early stopping lowers it), from a trial of a few items or batches."""

    what: str  # "fine-tuning Clip"
    seconds: float = 0.0
    memory_mb: float = 0.0  # beside what Python and its libraries take
    passes: int = 0  # items forward and backward through what trains: an encoder, a part of it, or a side network
    forward_passes: int = 0  # items forward alone
    items_per_s: float = 0.0  # forward and backward; forward alone where nothing of the encoder trains
    parameters: int = 0
    trainable: int = 0
    disk_mb: float = 0.0  # written
    free_mb: float | None = None  # on that disk; None where it was not asked
    details: str = ""  # "18 steps, 900 items to train on"
    recipe: str = ""  # the numbers of fine-tuning
    parts: tuple[Estimate, ...] = ()

    def facts(self) -> dict[str, str]:
        """The estimate as a table of two columns: a row for each part, then the whole."""
        facts = {part.what: f"{_details(part)}{_passes(part)}{readable(part.seconds)}" for part in self.parts}
        facts |= {
            "recipe": self.recipe,
            "training": self.details,
            "encoder passes": _passes(self).removesuffix("; ") if not self.parts else "",
            "speed": f"{self.items_per_s:,.1f} items/s, measured on a few" if self.items_per_s else "",
            "time": f"{readable(self.seconds)} ({self.seconds / 3600:.2f} h), at most",
            "parameters": f"{self.trainable:,} of {self.parameters:,} train" if self.parameters else "",
            "memory": f"{self.memory_mb:,.0f} MB of weights, optimizer state, features and activations; {_BESIDE}",
            "disk": self._disk() if self.disk_mb or self.free_mb is not None else "",
        }
        return {name: fact for name, fact in facts.items() if fact}

    def _disk(self) -> str:
        if self.free_mb is None:
            return f"{self.disk_mb:,.0f} MB"
        enough = "" if self.disk_mb <= self.free_mb else ": too little, the run will refuse to start"
        return f"{self.disk_mb:,.1f} MB of caches, {self.free_mb:,.0f} MB are free{enough}"

    def __str__(self) -> str:
        """The estimate in one line, for a log."""
        memory = f"{self.memory_mb:,.0f} MB beside Python and torch"
        return f"{self.what}: {_details(self)}{_passes(self)}{readable(self.seconds)}, {memory}, at most"


def log_estimate(make: Callable[[], Estimate]) -> None:
    """Log the estimate of work that is about to start: in the first process, and not within `quiet`."""
    if process_group.is_first() and not is_quiet():
        with process_group.single_process():
            logging.getLogger(__name__).info("%s", make())


def in_turn(what: str, parts: Iterable[Estimate]) -> Estimate:
    """The estimate of several pieces of work, one after the other."""
    parts = tuple(parts)
    free = [part.free_mb for part in parts if part.free_mb is not None]
    return Estimate(
        what,
        seconds=sum(part.seconds for part in parts),
        memory_mb=max((part.memory_mb for part in parts), default=0.0),
        passes=sum(part.passes for part in parts),
        forward_passes=sum(part.forward_passes for part in parts),
        items_per_s=next((part.items_per_s for part in reversed(parts) if part.items_per_s), 0.0),
        parameters=max((part.parameters for part in parts), default=0),
        trainable=max((part.trainable for part in parts), default=0),
        disk_mb=sum(part.disk_mb for part in parts),
        free_mb=min(free) if free else None,
        recipe=next((part.recipe for part in parts if part.recipe), ""),
        parts=parts,
    )


def readable(seconds: float) -> str:
    """A duration in hours, minutes or seconds."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.3g} s"


def seconds_of(work: Callable[[], object], device: torch.device, *, tries: int = 1) -> float:
    """The seconds of some work: the fastest of `tries`, after one that warms up."""
    seconds = []
    for _ in range(1 + tries):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:])


def weights_bytes(module: nn.Module, *, training: bool) -> int:
    """The bytes of a module's weights; in training with gradients, optimizer state and the best so far."""
    return sum(weight.nbytes * (COPIES if training and weight.requires_grad else 1) for weight in module.parameters())


def parameter_counts(module: nn.Module) -> tuple[int, int]:
    """The number of parameters of a module, and of those that train."""
    sizes = [(weight.numel(), weight.requires_grad) for weight in module.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trains in sizes if trains)


def _details(estimate: Estimate) -> str:
    return f"{estimate.details}; " if estimate.details else ""


def _passes(estimate: Estimate) -> str:
    counts = [f"{estimate.passes:,} items with gradient"] if estimate.passes else []
    counts += [f"{estimate.forward_passes:,} items without gradient"] if estimate.forward_passes else []
    return f"{', '.join(counts)}; " if counts else ""
