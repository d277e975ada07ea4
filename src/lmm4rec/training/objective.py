"""Training objectives: the interface of `Trainer`, and the objective of recommenders."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lmm4rec.core.sequences import PAD, SequenceBatch
from lmm4rec.core.types import Batch
from lmm4rec.distributed import batch_rows, process_group
from lmm4rec.features.source import FeatureSource
from lmm4rec.nn.tables import ShardedTable
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.lr_schedule import LearningRateSchedule, ParameterGroup
from lmm4rec.training.parameter_groups import grouped

RankingBatch: TypeAlias = Batch | SequenceBatch


@runtime_checkable
class Batches(Protocol):
    """A source of batches, such as a sampler or a data loader."""

    def __len__(self) -> int:
        """The number of batches in an epoch."""
        ...

    def epoch(self, generator: torch.Generator) -> Iterator[Any]:
        """The batches of one epoch; the generator is the only source of randomness."""
        ...


class Objective(nn.Module, ABC):
    """A module with named losses for a batch; all of its parameters that require a gradient are trained."""

    def begin_epoch(self, generator: torch.Generator) -> None:
        """Called once before an epoch's batches."""

    def replicated_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that every process has in full: all but sharded tables."""
        return (weight for weight in self.parameters() if not isinstance(weight, ShardedTable))

    def groups(self) -> tuple[ParameterGroup, ...]:
        """The groups of parameters with a learning-rate schedule of their own."""
        return ()

    def clipped_together(self) -> tuple[Sequence[nn.Parameter], ...]:
        """All parameters, in parts whose gradients `Trainer(clip_norm=)` bounds each by its own norm."""
        return (tuple(self.parameters()),)

    @property
    def is_solved(self) -> bool:
        """Whether an epoch is one `sweep` of exact updates in place of gradient steps."""
        return False

    def sweep(self, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """Update all parameters in place; the named terms of what is minimized, afterwards."""
        raise NotImplementedError(f"{type(self).__name__} is trained by gradient steps")

    def epoch_counts(self) -> Mapping[str, int]:
        """Counts of the epoch for its row of the history, such as encoded items; called once, at its end."""
        return {}

    def after_step(self) -> None:
        """A change to the parameters after each optimizer step, such as a bound on a learned temperature."""

    @abstractmethod
    def losses(self, batch: Any, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The named losses of a batch, already weighted; their sum is minimized."""


class RankingObjective(Objective):
    """A recommender on the features of a source; the losses and gradients of several processes are those of one.

    Where the recommender `splits_batches`, each process computes the losses of its part of a batch, weighted so that
    the mean over the processes is that of the batch. Else each computes those of the whole batch.
    """

    def __init__(
        self,
        recommender: Recommender,
        source: FeatureSource,
        *,
        batches: int = 0,
        encoder_schedule: LearningRateSchedule | None = None,
    ) -> None:
        """A source that is trained needs the number of `batches` in an epoch and the schedule of its encoder."""
        super().__init__()
        self.recommender, self.source = recommender, source
        self.batches, self.encoder_schedule = batches, encoder_schedule

    def groups(self) -> tuple[ParameterGroup, ...]:
        """`encoder`, with and without weight decay, where the source is trained."""
        if self.encoder_schedule is None:
            return ()
        named, warm_start = self.source.named_parameters(), self.source.warm_start
        return grouped("encoder", named, self.encoder_schedule, warm_start=warm_start)

    def clipped_together(self) -> tuple[Sequence[nn.Parameter], ...]:
        """All parameters; apart from the others those of the recommender's adversary, where it has one."""
        adversary = self.recommender.adversary()
        if adversary is None:
            return super().clipped_together()
        apart = tuple(adversary.parameters())
        known = {id(weight) for weight in apart}
        return tuple(weight for weight in self.parameters() if id(weight) not in known), apart

    def begin_epoch(self, generator: torch.Generator) -> None:
        """Call `begin_epoch` of source and recommender."""
        self.source.begin_epoch(self.batches)
        self.recommender.begin_epoch(self.source(), generator)

    def losses(self, batch: RankingBatch, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The recommender's losses on the source's current features, and the source's own."""
        device = next(self.parameters()).device
        batch = type(batch)(*(column.to(device, non_blocking=True) for column in batch))
        features = self.source(batch.items, generator)
        processes = process_group.world_size()
        if self.recommender.splits_batches and 1 < processes <= len(batch.users):
            own = type(batch)(*(process_group.local_rows(column) for column in batch))
            with batch_rows.shared_batch(len(batch.users)):
                terms = self.recommender.losses(own, features, generator)
            weight = processes * _examples(own) / _examples(batch)
            terms = {name: weight * term for name, term in terms.items()}
        else:
            terms = self.recommender.losses(batch, features, generator)
        return {**terms, **self.source.losses()}

    @property
    def is_solved(self) -> bool:
        """Whether the recommender is."""
        return self.recommender.is_solved

    def sweep(self, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """The sweep of the recommender."""
        return self.recommender.sweep(self.source(), generator)

    def after_step(self) -> None:
        """Let the source bound its parameters."""
        self.source.after_step()

    def epoch_counts(self) -> Mapping[str, int]:
        """The counts of the source."""
        return self.source.epoch_counts()


def _examples(batch: RankingBatch) -> int:
    """The number of rows, or of targets, over which losses are means."""
    return int((batch.sequences[:, 1:] != PAD).sum()) if isinstance(batch, SequenceBatch) else len(batch.users)
