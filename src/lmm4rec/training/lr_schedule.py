"""Learning rates: their schedule over the steps of a training, for each group of parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from torch import nn
from typing_extensions import Doc

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.types import Fraction, NonNegativeFloat, PositiveFloat
from lmm4rec.training.optim.adam import Adam
from lmm4rec.training.optim.deferred_rows import BETAS


@dataclass(frozen=True, kw_only=True)
class LearningRateSchedule:
    """The highest learning rate, its schedule with warm-up (a share of all steps), and the weight decay.

    Keyword-only arguments are keys of conf files; `end` and `betas` are set by recipes alone. `end` is the learning
    rate after the last step, as a share of the highest.
    """

    learning_rate: Annotated[PositiveFloat, Doc("Learning rate at its height.")] = 1e-5
    weight_decay: Annotated[NonNegativeFloat, Doc("Weight decay.")] = 0.0
    schedule: Annotated[Literal["constant", "linear", "cosine"], Doc("Learning rate after the warm-up.")] = "constant"
    warmup: Annotated[Fraction, Doc("Share of the steps in which the learning rate rises.")] = 0.0
    end: float = field(default=0.0, kw_only=False)
    betas: tuple[float, float] = field(default=BETAS, kw_only=False)

    def at(self, step: int, steps: int) -> float:
        """The learning rate at one of `steps` steps: linear warm-up, then the schedule."""
        warm = self.warmup * steps
        if step < warm:
            return self.learning_rate * ((step + 1) / max(warm, 1.0))
        done = (step - warm) / max(steps - warm, 1.0)
        curves = {"constant": 1.0, "linear": 1.0 - done, "cosine": (1.0 + math.cos(math.pi * done)) / 2}
        return self.learning_rate * (self.end + (1.0 - self.end) * curves[self.schedule])


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters with a learning-rate schedule of their own, trained from the epoch after `warm_start` epochs on."""

    name: str
    parameters: tuple[nn.Parameter, ...]
    schedule: LearningRateSchedule
    warm_start: int = 0

    def options(self) -> dict[str, Any]:
        """The group in the format of an optimizer's parameter groups."""
        schedule = self.schedule
        options = {"params": list(self.parameters), "lr": schedule.learning_rate, "weight_decay": schedule.weight_decay}
        return options if schedule.betas == BETAS else options | {"betas": schedule.betas}


def parameter_groups(
    parameters: Iterable[nn.Parameter], special: Iterable[ParameterGroup], schedule: LearningRateSchedule
) -> list[ParameterGroup]:
    """The groups of all trained parameters: those of no `special` group, named "", then the special groups.

    Raises:
        TrainingError: no parameter is trained.
    """
    special = [group for group in special if group.parameters]
    grouped = {id(weight) for group in special for weight in group.parameters}
    others = tuple(weight for weight in parameters if weight.requires_grad and id(weight) not in grouped)
    groups = [ParameterGroup("", others, schedule), *special] if others else special
    if not groups:
        raise TrainingError("the objective has no parameter to train")
    return groups


class LearningRates:
    """The learning rates of an optimizer's parameter groups over `epochs` epochs of `batches` steps."""

    def __init__(self, optimizer: Adam, groups: Sequence[ParameterGroup], *, epochs: int, batches: int) -> None:
        self.optimizer, self.groups, self.epochs, self.batches = optimizer, groups, epochs, batches

    def set(self, step: int) -> dict[str, float]:
        """Set all learning rates for a step; returns them as "learning_rate" and "learning_rate.GROUP".

        Of groups with one name it is the highest.
        """
        rates: dict[str, float] = {}
        for group, options in zip(self.groups, self.optimizer.param_groups, strict=True):
            waited = group.warm_start * self.batches
            steps = self.epochs * self.batches - waited
            options["lr"] = 0.0 if step < waited else group.schedule.at(step - waited, steps)
            name = f"learning_rate.{group.name}".removesuffix(".")
            rates[name] = max(options["lr"], rates.get(name, 0.0))
        return rates
