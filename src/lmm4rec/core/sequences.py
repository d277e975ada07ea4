"""Sequences of items: the histories of users in the order of time, batches of them, and scorers that read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

from lmm4rec.core.types import Scorer

PAD = -1
"""The entry behind the end of a shorter sequence."""


@dataclass(frozen=True)
class Sequences:
    """The items of each user in the order of time, the latest last; a user may have none."""

    items: Int[Tensor, " n"]  # those of the first user, then those of the second, ...
    counts: Int[Tensor, " users"]

    @classmethod
    def of(cls, users: Int[Tensor, " n"], items: Int[Tensor, " n"], n_users: int) -> Sequences:
        """The sequences of interactions that are in the order of time."""
        order = torch.argsort(users, stable=True)
        return cls(items[order].long(), torch.bincount(users, minlength=n_users))

    @classmethod
    def of_lists(cls, lists: Sequence[Int64[np.ndarray, " _length"]]) -> Sequences:
        """One sequence for each list of item rows."""
        flat = np.concatenate([np.empty(0, np.int64), *lists])
        return cls(torch.from_numpy(flat), torch.tensor([len(one) for one in lists], dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.counts)

    def latest(
        self, length: int, rows: slice = slice(None)
    ) -> tuple[Int[Tensor, "users steps"], Int[Tensor, " users"]]:
        """The latest items of the users in some rows, at most `length` each, padded behind the end; and their numbers.

        There is at least one column.
        """
        ends, counts = self.counts.cumsum(0)[rows], self.counts[rows].clamp(max=length)
        steps = torch.arange(max(1, int(counts.max())) if len(counts) else 1, device=self.counts.device)
        there = steps < counts[:, None]
        padded = torch.full(there.shape, PAD, device=self.counts.device)
        padded[there] = self.items[((ends - counts)[:, None] + steps)[there]]
        return padded, counts


class SequenceBatch(NamedTuple):
    """Parts of the users' sequences, in which each item is to be predicted from those before it, with negative items.

    Item 0 of a part is input alone, the last one is target alone. Negatives are those of each target, or one set that
    the targets of a part share (`targets_or_1` is 1).
    """

    users: Int[Tensor, " batch"]
    sequences: Int[Tensor, "batch targets_and_1"]  # padded behind the end with `PAD`
    negatives: Int[Tensor, "batch targets_or_1 negatives"]
    log_expected: Float[Tensor, "batch targets_or_1 negatives"]  # log of how often each is drawn, on average

    @property
    def positives(self) -> Int[Tensor, " positives"]:
        """The items of all parts."""
        return self.sequences[self.sequences != PAD]

    @property
    def items(self) -> Int[Tensor, " entries"]:
        """All items that occur, some repeatedly."""
        return torch.cat([self.positives, self.negatives.flatten()])


@runtime_checkable
class SequenceScorer(Scorer, Protocol):
    """A scorer that reads the order of a user's items, and scores for any sequences."""

    def of_sequences(self, sequences: Sequences) -> Scorer:
        """The scorer of the users with these sequences, a row each."""
        ...
