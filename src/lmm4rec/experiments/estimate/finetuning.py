"""What training an encoder will take, told before it starts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.training.finetuning import held_out_pairs
from lmm4rec.training.finetuning_trial import Trial, defaults, try_pairs

_MB = 2**20
_COPIES = 5  # of the weights: themselves, gradient, Adam's two moments, the best so far


@dataclass(frozen=True)
class Estimate:
    """What a training of an encoder will take at most; times are measured on a few items of the catalog."""

    what: str  # "fine-tuning Clip"
    items: int  # to train on
    steps: int
    passes: int  # items through the encoder, forward and backward
    looks: int  # items through the encoder forward alone: validation and encoding
    items_per_s: float  # forward and backward
    seconds: float  # of all: preparing, training, looking
    memory_mb: float  # beside what Python and its libraries take
    disk_mb: float = 0.0  # what stays on disk afterwards

    @property
    def hours(self) -> float:
        """The time of all."""
        return self.seconds / 3600

    def facts(self) -> dict[str, str]:
        """The estimate for people, one fact a row."""
        return {
            "items to train on": f"{self.items:,}",
            "steps": f"{self.steps:,}, at most",
            "encoder passes": f"{self.passes:,} with gradient, {self.looks:,} without",
            "speed": f"{self.items_per_s:,.1f} items/s with gradient, measured on a few",
            "time": f"{readable(self.seconds)}, at most",
            "memory": f"{self.memory_mb:,.0f} MB",
            "disk": f"{self.disk_mb:,.0f} MB",
        }

    def __str__(self) -> str:
        return (
            f"{self.what}: {self.items:,} items, at most {self.steps:,} steps and {self.passes:,} encoder passes with "
            f"gradient; {readable(self.seconds)} at {self.items_per_s:,.1f} items/s, {self.memory_mb:,.0f} MB"
        )


def readable(seconds: float) -> str:
    """A duration in hours, minutes or seconds, whichever suits it."""
    if seconds >= 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min" if seconds >= 90 else f"{seconds:.3g} s"


def estimate_tuning(encoder: Encoder, catalog: Catalog, options: Mapping[str, Any]) -> Estimate:
    """What fine-tuning with these arguments of `fit_pairs` will take, the catalog's encoding before and after included.

    Raises:
        TrainingError: it would not begin.
    """
    given, trial = defaults(options), try_pairs(encoder, catalog[:], options)
    held_out = held_out_pairs(trial.pairs, given["valid"])
    rest = trial.pairs - held_out
    whole, left = divmod(rest, max(2, given["batch_size"]))
    epochs, again = given["epochs"], 0 < given["chunk"] < given["batch_size"]
    train_s = trial.train_s + (trial.look_s if again else 0.0)  # chunks pass forward twice
    passes, looks = epochs * rest, (epochs + 2) * held_out + 2 * len(catalog)
    return Estimate(
        what=f"fine-tuning {type(encoder).__name__}",
        items=rest,
        steps=epochs * (whole + (left >= 2)),
        passes=passes,
        looks=looks,
        items_per_s=1 / train_s,
        seconds=3 * trial.pairs * trial.prepare_s + passes * train_s + looks * trial.look_s,
        memory_mb=_memory(encoder, trial, given) / _MB,
        disk_mb=_bytes(encoder) / _MB,
    )


def _memory(encoder: Encoder, trial: Trial, given: Mapping[str, Any]) -> float:
    """Bytes: weights and what the optimizer keeps of each, prepared images, one pass, and a batch's similarities."""
    batch = min(given["batch_size"], trial.pairs)
    rows = min(batch, given["chunk"] or batch)
    images = min(trial.pairs * trial.pixel_bytes, given["memory_mb"] * _MB) + 2 * batch * trial.pixel_bytes
    return _COPIES * _bytes(encoder) + images + rows * trial.kept_bytes + trial.fixed_bytes + 6 * 4 * math.pow(batch, 2)


def _bytes(encoder: Encoder) -> int:
    return sum(weight.nbytes for weight in encoder.parameters())
