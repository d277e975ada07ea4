"""What is minimized: the interface that the trainer knows, and its ranking instance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lmm4rec.core.types import Batch
from lmm4rec.distributed import process_group
from lmm4rec.features.source import FeatureSource
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.lr_schedule import LearningRateSchedule, ParameterGroup


@runtime_checkable
class Batches(Protocol):
    """Where an objective's batches come from."""

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, generator: torch.Generator) -> Iterator[Any]:
        """The batches of one epoch, all of their randomness from the generator."""
        ...


class Objective(nn.Module, ABC):
    """Something that gives named losses for a batch; its parameters are what trains."""

    def begin_epoch(self, generator: torch.Generator) -> None:
        """What is done once before an epoch's batches."""

    def groups(self) -> tuple[ParameterGroup, ...]:
        """The parameters that do not train at the trainer's own rates."""
        return ()

    def facts(self) -> Mapping[str, int]:
        """What else an epoch's row of the history holds; asked for at its end."""
        return {}

    def after_step(self) -> None:
        """A change to the parameters after each optimizer step, such as a bound on a learned temperature."""

    @abstractmethod
    def losses(self, batch: Any, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The named losses of a batch, already weighted; their sum is minimized."""


class Ranking(Objective):
    """A recommender on the features of a source; where several processes train, each takes its part of a batch.

    For losses that are means over a batch's rows that gives the losses of one process, for those that compare the
    rows of a batch with each other it compares within the parts.
    """

    def __init__(
        self,
        recommender: Recommender,
        source: FeatureSource,
        *,
        batches: int = 0,
        encoder_schedule: LearningRateSchedule | None = None,
    ) -> None:
        """A source in training needs the number of `batches` in an epoch, and the rates of what trains in it."""
        super().__init__()
        self.recommender, self.source = recommender, source
        self.batches, self.encoder_schedule = batches, encoder_schedule

    def groups(self) -> tuple[ParameterGroup, ...]:
        """`encoder`, where the source trains."""
        weights = tuple(weight for weight in self.source.parameters() if weight.requires_grad)
        if not weights or self.encoder_schedule is None:
            return ()
        return (ParameterGroup("encoder", weights, self.encoder_schedule, self.source.warm_start),)

    def begin_epoch(self, generator: torch.Generator) -> None:
        """Let source and recommender rebuild what they rebuild."""
        self.source.begin_epoch(self.batches)
        self.recommender.begin_epoch(self.source(), generator)

    def losses(self, batch: Batch, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The recommender's losses on the source's current features, and the source's own."""
        device = next(self.parameters()).device
        batch = Batch(*(column.to(device) for column in batch))
        items = torch.cat([batch.positives, batch.negatives.flatten()])
        features = self.source(items, generator)
        own, weight = _part(batch)
        terms = self.recommender.losses(own, features, generator)
        if weight != 1.0:
            terms = {name: weight * term for name, term in terms.items()}
        return {**terms, **self.source.losses()}

    def after_step(self) -> None:
        """Let the source bound its parameters."""
        self.source.after_step()

    def facts(self) -> Mapping[str, int]:
        """Those of the source."""
        return self.source.facts()


def _part(batch: Batch) -> tuple[Batch, float]:
    """This process's rows, and what their mean counts in the mean over processes; all rows where these are too few."""
    if len(batch.users) < process_group.world_size():
        return batch, 1.0
    own = Batch(*(process_group.local_rows(column) for column in batch))
    return own, len(own.users) * process_group.world_size() / len(batch.users)
