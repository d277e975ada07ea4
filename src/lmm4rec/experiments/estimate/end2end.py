"""What a run will take, told before it starts: passes through the encoder, hours, memory and disk."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lmm4rec.encoding import sizing
from lmm4rec.experiments.estimate.finetuning import readable
from lmm4rec.features.item_vectors import ItemVectors
from lmm4rec.training.sampler import TripleSampler

_TRIED = 8  # items on which speed is measured
_LOOKED = 64  # batches in which distinct items are counted
_COPIES = 5  # of what trains: itself, gradient, Adam's two moments, the best so far
_MB = 2**20


@dataclass(frozen=True)
class Speed:
    """Of one item, measured on a handful."""

    train_s: float  # forward and backward
    look_s: float  # forward alone
    kept_bytes: int  # what autograd keeps


@dataclass(frozen=True)
class RunEstimate:
    """What a run will take at most; early stopping makes it less."""

    what: str  # "VBPR on clip, end2end (last)"
    epochs: int
    encodings: int  # items through what trains, forward and backward, an epoch
    looks: int  # items through it forward alone, in all
    before: int  # items through the encoder before training begins: features, caches
    encodes: bool  # whether these are passes through an encoder, or a part of it
    items_per_s: float  # forward and backward
    seconds: float  # in all
    parameters: int
    trainable: int
    memory_mb: float  # beside what Python and its libraries take
    disk_mb: float = 0.0  # for what is cached
    free_mb: float = 0.0  # on that disk
    tuning: int = 0  # items through the encoder, forward and backward, to tune it before all else

    def facts(self) -> dict[str, str]:
        """The estimate for people, one fact a row."""
        through = "encoder passes in training" if self.encodes else "side network passes"
        each = f"{self.encodings:,} items an epoch, {self.epochs * self.encodings:,} in all epochs"
        facts = {
            "encoder passes to tune it": f"{self.tuning:,} items, at most" if self.tuning else "",
            "encoder passes before": f"{self.before:,} items, without gradient" if self.before else "none",
            through: f"{each}; {self.looks:,} without gradient" if self.encodings else "none",
            "speed": f"{self.items_per_s:,.1f} items/s with gradient, measured on a few" if self.encodings else "",
            "time": f"{readable(self.seconds)} ({self.seconds / 3600:.2f} h), at most",
            "parameters": f"{self.trainable:,} of {self.parameters:,} train",
            "memory": f"{self.memory_mb:,.0f} MB",
            "disk": self._disk() if self.free_mb else "",
        }
        return {name: fact for name, fact in facts.items() if fact}

    def _disk(self) -> str:
        enough = "" if self.disk_mb <= self.free_mb else ": too little, the run will refuse to start"
        return f"{self.disk_mb:,.1f} MB of caches, {self.free_mb:,.0f} MB are free{enough}"

    def __str__(self) -> str:
        return (
            f"{self.what}: at most {self.encodings:,} encodings with gradient an epoch, {self.epochs} epochs, "
            f"{readable(self.seconds)} at {self.items_per_s:,.1f} items/s, {self.memory_mb:,.0f} MB"
        )


def measure_speed(vectors: ItemVectors, precision: sizing.Precision) -> Speed:
    """Seconds and bytes an item, from a handful of them; modes, gradients and generators are left as they were."""
    device = next(vectors.parameters()).device
    rows = torch.linspace(0, vectors.n_items - 1, min(_TRIED, vectors.n_items), device=device).long()
    low = sizing.precision(precision, vectors, device) == "bfloat16"
    seeded = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with seeded, torch.autocast(device.type, dtype=torch.bfloat16, enabled=low):
        look = _timed(lambda: _forward(vectors, rows), device)
        train = _timed(lambda: _backward(vectors, rows), device)
        kept = sizing.kept_bytes(vectors, rows)
    return Speed(train / len(rows), look / len(rows), kept // len(rows))


def encodings(sampler: TripleSampler, live: Mapping[str, Any]) -> int:
    """How many items pass with gradient in an epoch, by Live's `every` and `max_items`, counted in batches of one."""
    every = _every(sampler, live)
    looked = max(_LOOKED, every)
    counts, met = [], set[int]()
    batches = sampler.epoch(torch.Generator().manual_seed(0))
    for number, batch in enumerate(islice(batches, looked), start=1):
        met |= set(torch.unique(torch.cat([batch.positives, batch.negatives.flatten()])).tolist())
        if number % every == 0 or number == len(sampler):
            counts.append(min(len(met), live["max_items"] or len(met)))
            met = set()
    passes = -(-len(sampler) // every)
    return round(sum(counts) / len(counts) * passes)


def looks(n_items: int, epochs: int, evaluate_every: int, live: Mapping[str, Any]) -> int:
    """How many items pass without gradient in a run: refreshes, before validations, and at the end."""
    trained = max(epochs - live["warm_start"], 0)
    refreshes = trained // live["refresh_every"] if live["refresh_every"] else 0
    validations = trained // evaluate_every if live["validate_on"] == "fresh" else 0
    return n_items * (max(refreshes, validations) + 1)  # what was encoded for the one serves the other


def estimate_training(
    what: str,
    vectors: ItemVectors,
    sampler: TripleSampler,
    live: Mapping[str, Any],
    *,
    epochs: int,
    evaluate_every: int,
    inputs_mb: float = 0.0,
) -> RunEstimate:
    """The training of what computes items' vectors, of which it may know a handful; `live` is Live's arguments."""
    n_items, speed, each = sampler.n_items, measure_speed(vectors, live["precision"]), encodings(sampler, live)
    forward, trained = looks(n_items, epochs, evaluate_every, live), max(epochs - live["warm_start"], 0)
    weights = list(vectors.parameters())
    held = sum(weight.nbytes * (_COPIES if weight.requires_grad else 1) for weight in weights)
    table = 3 * 4 * n_items * sum(vectors.dims.values())  # with its gradient, and the best so far
    passes = -(-len(sampler) // _every(sampler, live))
    a_pass = min(each / passes * speed.kept_bytes / _MB, live["memory_mb"])
    return RunEstimate(
        what=what,
        epochs=trained,
        encodings=each,
        looks=forward,
        before=0,
        encodes=vectors.encodes,
        items_per_s=1 / speed.train_s,
        seconds=trained * each * speed.train_s + forward * speed.look_s,
        parameters=sum(weight.numel() for weight in weights),
        trainable=sum(weight.numel() for weight in weights if weight.requires_grad),
        memory_mb=(held + table) / _MB + a_pass + inputs_mb,
    )


def _every(sampler: TripleSampler, live: Mapping[str, Any]) -> int:
    return len(sampler) if live["every"] == "epoch" else min(live["every"], len(sampler))


def _forward(vectors: ItemVectors, rows: Tensor) -> None:
    with torch.no_grad():
        vectors(rows)


def _backward(vectors: ItemVectors, rows: Tensor) -> None:
    trained = [weight for weight in vectors.parameters() if weight.requires_grad]
    total = torch.stack([made.sum() for made in vectors(rows).values()]).sum()
    torch.autograd.grad(total, trained, allow_unused=True)


def _timed(work: Callable[[], None], device: torch.device) -> float:
    work()  # the first time is slower
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
