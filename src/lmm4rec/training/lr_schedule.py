"""How fast weights learn, step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lmm4rec.core.types import Fraction, NonNegativeFloat, PositiveFloat


@dataclass(frozen=True, kw_only=True)
class LearningRateSchedule:
    """The learning rate at its height, its warm-up (a share of all steps) and its schedule, and the decay."""

    learning_rate: PositiveFloat = 1e-5
    weight_decay: NonNegativeFloat = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup: Fraction = 0.0

    def at(self, step: int, steps: int) -> float:
        """The learning rate at a step of so many: linear warm-up, then the schedule down to 0."""
        warm = self.warmup * steps
        if step < warm:
            return self.learning_rate * ((step + 1) / max(warm, 1.0))
        done = (step - warm) / max(steps - warm, 1.0)
        curves = {"constant": 1.0, "linear": 1.0 - done, "cosine": (1.0 + math.cos(math.pi * done)) / 2}
        return self.learning_rate * curves[self.schedule]
