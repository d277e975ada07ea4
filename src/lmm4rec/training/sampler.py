"""Samplers of training batches: triples for ranking, rows for contrastive learning."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeAlias

import torch
from annotated_types import Interval
from jaxtyping import Int
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.types import Batch, PositiveInt
from lmm4rec.training.interaction_set import InteractionSet
from lmm4rec.training.sequence_sampler import SequenceSampler

SMALLEST_BATCH, MOST_BATCHES, FEWEST_BATCHES = 2048, 128, 32  # of batch_size = "auto"


def automatic_batch_size(pairs: int, *, reads_whole_graph: bool = False) -> int:
    """Triples in a step where `batch_size` is "auto" (docs/decisions/0009): 2,048 up to 262,144 pairs.

    Beyond, an epoch has 128 batches. Where a step reads the whole graph, both it and the number of steps would grow
    with the log: there an epoch has ever fewer batches, down to 32 from a million pairs on.
    """
    largest = MOST_BATCHES * SMALLEST_BATCH  # pairs up to which batches are the smallest
    batches: float = MOST_BATCHES
    if reads_whole_graph:
        batches = max(FEWEST_BATCHES, MOST_BATCHES * largest / max(pairs, largest))
    return max(SMALLEST_BATCH, math.ceil(pairs / batches))


class TripleSampler:
    """Batches of training triples: every pair once in an epoch, in random order, each with newly sampled negatives.

    Negatives are uniform over the items with which the user has no training interaction. Users who have interacted
    with every item have no negative and are left out (the split has a finding that names them). A share of the
    negatives may be hard ones: items that the user disliked, skipped or rated low.
    """

    def __init__(
        self,
        users: Int[Tensor, " pairs"],
        items: Int[Tensor, " pairs"],
        n_items: int,
        signals: tuple[Int[Tensor, " signals"], Int[Tensor, " signals"]] | None = None,
        *,
        batch_size: Annotated[
            PositiveInt | Literal["auto"],
            Doc("Triples (user, item, negatives) in a step; auto: 2,048, large logs more."),
        ] = "auto",
        negatives: Annotated[PositiveInt, Doc("Negative items for each positive one.")] = 1,
        hard_negatives: Annotated[
            float, Interval(ge=0, le=1), Doc("Share of negatives from the user's negative signals, if there are any.")
        ] = 0.0,
    ) -> None:
        """`signals` are users and items of the negative signals, none of them a training pair.

        `batch_size` "auto" is `automatic_batch_size` of a model that reads the rows of its batch alone.

        Raises:
            TrainingError: there are no interactions, or all users have interacted with every item.
        """
        _require_interactions(users)
        self.users, self.items, self.n_items = users.long(), items.long(), n_items
        self.batch_size = automatic_batch_size(len(users)) if batch_size == "auto" else batch_size
        self.negatives, self.hard_negatives = negatives, hard_negatives
        if hard_negatives:
            keys = torch.unique(signals[0].long() * n_items + signals[1]) if signals else self.users[:0]
            self.signal_items = keys % n_items
            counts = torch.bincount(keys // n_items, minlength=int(self.users.max()) + 1)
            self.signal_counts, self.signal_starts = counts, counts.cumsum(0) - counts
        self.interactions = InteractionSet(self.users, self.items, n_items)
        full = torch.bincount(self.interactions.keys // n_items) == n_items
        if full.any():
            kept = ~full[self.users]
            self.users, self.items = self.users[kept], self.items[kept]
        if not len(self.users):
            raise TrainingError(
                f"every user has interacted with all {n_items} items: no item is left to sample as a negative"
            )

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self.users) / self.batch_size)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of one epoch."""
        order = torch.randperm(len(self.users), generator=generator)
        for rows in torch.split(order, self.batch_size):
            users = self.users[rows]
            yield Batch(users, self.items[rows], self.sample_negatives(users, generator))

    def sample_negatives(
        self, users: Int[Tensor, " batch"], generator: torch.Generator
    ) -> Int[Tensor, "batch negatives"]:
        """Items with which the given users have not interacted; a share of them are negative signals of the user."""
        each = users.repeat_interleave(self.negatives)
        flat = self.interactions.negatives(each, lambda n: torch.randint(self.n_items, (n,), generator=generator))
        sampled = flat.view(-1, self.negatives)
        return self._with_hard_negatives(users, sampled, generator) if self.hard_negatives else sampled

    def _with_hard_negatives(
        self, users: Int[Tensor, " batch"], sampled: Int[Tensor, "batch negatives"], generator: torch.Generator
    ) -> Int[Tensor, "batch negatives"]:
        """The sampled negatives, of which each is replaced by one of its user's signals with that probability."""
        counts, starts = self.signal_counts[users][:, None], self.signal_starts[users][:, None]
        chosen = torch.rand(sampled.shape, generator=generator) < self.hard_negatives
        places = starts + (torch.rand(sampled.shape, generator=generator, dtype=torch.float64) * counts).long()
        chosen &= counts > 0
        sampled[chosen] = self.signal_items[places[chosen]]
        return sampled


class UserSampler:
    """Batches of users: every user with an interaction once in an epoch, in random order, with the last of their items.

    For models of whole histories, which read them from the graph; there are no negatives.
    """

    def __init__(
        self,
        users: Int[Tensor, " pairs"],
        items: Int[Tensor, " pairs"],
        n_items: int,
        *,
        batch_size: Annotated[PositiveInt | Literal["auto"], Doc("Users in a step; auto: 1,024.")] = "auto",
    ) -> None:
        """Raises TrainingError where there are no interactions."""
        _require_interactions(users)
        order = torch.argsort(users, stable=True)
        self.users, counts = torch.unique(users.long(), return_counts=True)
        self.items, self.n_items = items.long()[order], n_items
        self.ends = counts.cumsum(0)
        self.batch_size = 1024 if batch_size == "auto" else batch_size

    def __len__(self) -> int:
        """Batches in an epoch."""
        return math.ceil(len(self.users) / self.batch_size)

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """The batches of one epoch."""
        order = torch.randperm(len(self.users), generator=generator)
        for rows in torch.split(order, self.batch_size):
            last = self.items[self.ends[rows] - 1]
            yield Batch(self.users[rows], last, last.new_empty(len(rows), 0))


class WholeEpoch:
    """A sampler without batches, for a model whose epoch is one sweep over all interactions; it counts as one step."""

    def __init__(
        self,
        users: Int[Tensor, " pairs"],
        items: Int[Tensor, " pairs"],
        n_items: int,
        *,
        batch_size: Annotated[PositiveInt | Literal["auto"], Doc("Of no effect: an epoch is one sweep.")] = "auto",
    ) -> None:
        """Raises TrainingError where there are no interactions."""
        _require_interactions(users)
        self.users, self.items, self.n_items, self.batch_size = users, items, n_items, len(users)

    def __len__(self) -> int:
        """One."""
        return 1

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        """No batch."""
        return iter(())


def _require_interactions(users: Int[Tensor, " pairs"]) -> None:
    if not len(users):
        raise TrainingError("the training part of the split has no interactions")


RankingSampler: TypeAlias = TripleSampler | UserSampler | SequenceSampler | WholeEpoch


def sampler_of(recommender: Any) -> type[RankingSampler]:
    """The sampler of the batches that a recommender (a class) is trained on."""
    if recommender.is_solved:
        return WholeEpoch
    if recommender.sequence_batches:
        return SequenceSampler
    return UserSampler if recommender.user_batches else TripleSampler


class RowSampler:
    """Batches of rows: every row once in an epoch, in random order; a last batch of a single row is dropped."""

    def __init__(self, rows: Int[Tensor, " rows"], *, batch_size: int) -> None:
        """Raises TrainingError where there are fewer than two rows."""
        if len(rows) < 2:
            raise TrainingError(f"contrastive training needs at least two items with image and text, got {len(rows)}")
        self.rows, self.batch_size = rows.long(), max(2, batch_size)

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.rows), self.batch_size)
        return whole + (rest >= 2)

    def epoch(self, generator: torch.Generator) -> Iterator[Int[Tensor, " batch"]]:
        """The batches of one epoch."""
        order = torch.randperm(len(self.rows), generator=generator)
        for places in torch.split(order, self.batch_size):
            if len(places) >= 2:
                yield self.rows[places]
