"""Sampler of training batches for models of sequences."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import torch
from jaxtyping import Int
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.sequences import PAD, SequenceBatch, Sequences
from lmm4rec.core.types import PositiveInt
from lmm4rec.training.interaction_set import InteractionSet

_BATCH = 128  # sequences, of batch_size = "auto"


class SequenceSampler:
    """Batches of parts of the users' sequences: in an epoch, every item but a user's first is a target once.

    A sequence of more than `length` + 1 items is cut into parts of at most `length` targets, at other places in each
    epoch; the first item of a part is the last target of the one before. A user with a single item has no target.

    Negatives are items with which the user has no training interaction. Users who have interacted with every item that
    can be sampled have none and are left out.
    """

    def __init__(
        self,
        users: Int[Tensor, " n"],
        items: Int[Tensor, " n"],
        n_items: int,
        length: int = 50,
        *,
        batch_size: Annotated[PositiveInt | Literal["auto"], Doc("Sequences in a step; auto: 128.")] = "auto",
        negatives: Annotated[PositiveInt, Doc("Negative items for each target, or each sequence.")] = 1,
        negatives_per: Annotated[
            Literal["target", "sequence"], Doc("Whether each target has its negatives, or a sequence's targets share.")
        ] = "target",
        sampling: Annotated[
            Literal["uniform", "popularity"], Doc("Negatives by equal chance, or by their training interactions.")
        ] = "uniform",
    ) -> None:
        """The interactions are in the order of time.

        Raises:
            TrainingError: no user has two items, or all of those have interacted with every item.
        """
        self.n_items, self.length = n_items, length
        self.batch_size = _BATCH if batch_size == "auto" else batch_size
        self.negatives, self.is_shared = negatives, negatives_per == "sequence"
        self.sequences = Sequences.of(users.long(), items, int(users.max()) + 1 if len(users) else 0)
        counts = self.sequences.counts
        self.starts = counts.cumsum(0) - counts
        popularity = torch.bincount(items, minlength=n_items).double()
        weights = popularity if sampling == "popularity" else torch.ones_like(popularity)
        self.probabilities = weights / weights.sum().clamp(min=1)
        self.cumulated = self.probabilities.cumsum(0)
        self.interactions = InteractionSet(users, items, n_items)
        owners, taken_items = self.interactions.keys // n_items, self.interactions.keys % n_items
        # the probability of all items that a user has not interacted with, among which negatives are sampled
        taken = torch.zeros(len(counts), dtype=torch.float64)
        self.left = 1 - taken.index_add_(0, owners, self.probabilities[taken_items])
        candidates = int((self.probabilities > 0).sum())
        full = torch.bincount(owners, minlength=len(counts)) >= candidates
        targets = torch.where(full, 0, (counts - 1).clamp(min=0))
        self.targets, self.parts = targets, -(-targets // length)
        if not self.parts.any():
            why = "those with two items have interacted with every item" if full.any() else "the longest has one item"
            raise TrainingError(f"no user has a sequence of two items with an item left to sample as a negative: {why}")
        self.users = torch.repeat_interleave(self.parts)  # of each part
        self.places = torch.arange(len(self.users)) - torch.repeat_interleave(
            self.parts.cumsum(0) - self.parts, self.parts
        )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self.users) / self.batch_size)

    def epoch(self, generator: torch.Generator) -> Iterator[SequenceBatch]:
        """The batches of one epoch."""
        slack = self.parts * self.length - self.targets
        shift = (torch.rand(len(slack), generator=generator, dtype=torch.float64) * (slack + 1)).long()[self.users]
        first = (self.places * self.length - shift).clamp(min=0)  # the place of a part's first item in its sequence
        last = torch.minimum((self.places + 1) * self.length - shift, self.targets[self.users])
        order = torch.randperm(len(self.users), generator=generator)
        for rows in torch.split(order, self.batch_size):
            yield self._batch(self.users[rows], first[rows], last[rows], generator)

    def _batch(
        self,
        users: Int[Tensor, " batch"],
        first: Int[Tensor, " batch"],
        last: Int[Tensor, " batch"],
        generator: torch.Generator,
    ) -> SequenceBatch:
        """The batch of the items from `first` to `last`, both included, of these users."""
        steps = torch.arange(int((last - first).max()) + 1)
        places = first[:, None] + steps
        is_there = places <= last[:, None]
        sequences = self.sequences.items[self.starts[users][:, None] + torch.minimum(places, last[:, None])]
        negatives = self._sample(users, 1 if self.is_shared else len(steps) - 1, generator)
        if not self.is_shared:  # behind the end there is no target: an item of the sequence is no further one to read
            negatives = torch.where(is_there[:, 1:, None], negatives, sequences[:, :1, None])
        expected = self.negatives * self.probabilities[negatives] / self.left[users][:, None, None]
        return SequenceBatch(users, sequences.where(is_there, PAD), negatives, expected.log().float())

    def _sample(
        self, users: Int[Tensor, " batch"], sets: int, generator: torch.Generator
    ) -> Int[Tensor, "batch sets negatives"]:
        """Items with which the given users have not interacted."""
        each = users.repeat_interleave(sets * self.negatives)
        flat = self.interactions.negatives(each, lambda n: self._draw(n, generator))
        return flat.view(-1, sets, self.negatives)

    def _draw(self, drawn: int, generator: torch.Generator) -> Int[Tensor, " drawn"]:
        chances = torch.rand(drawn, generator=generator, dtype=torch.float64) * self.cumulated[-1]
        return torch.searchsorted(self.cumulated, chances, right=True).clamp_(max=self.n_items - 1)
