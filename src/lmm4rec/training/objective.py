"""What is minimized: the interface that the trainer knows, and its ranking instance."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lmm4rec.core.types import Batch
from lmm4rec.features.source import FeatureSource
from lmm4rec.recommenders.base import Recommender


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

    @abstractmethod
    def losses(self, batch: Any, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The named losses of a batch, already weighted; their sum is minimized."""


class Ranking(Objective):
    """A recommender on the features of a source."""

    def __init__(self, recommender: Recommender, source: FeatureSource) -> None:
        super().__init__()
        self.recommender, self.source = recommender, source

    def begin_epoch(self, generator: torch.Generator) -> None:
        """Let the recommender rebuild what it rebuilds."""
        self.recommender.begin_epoch(self.source(), generator)

    def losses(self, batch: Batch, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The recommender's losses on the source's current features."""
        device = next(self.parameters()).device
        batch = Batch(*(column.to(device) for column in batch))
        items = torch.cat([batch.positives, batch.negatives.flatten()])
        return self.recommender.losses(batch, self.source(items), generator)
