"""The log of interactions: pairs of user and item, with ratings, timestamps, labels and weights where there are any."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float32, Int8, Int32, Int64, Shaped

from lmm4rec.core.fingerprint import fingerprint


@dataclass(frozen=True)
class Interactions:
    """Parallel columns, one entry an interaction; users and items are rows of their vocabularies."""

    users: Int32[np.ndarray, " n"]
    items: Int32[np.ndarray, " n"]
    ratings: Float32[np.ndarray, " n"] | None = None
    timestamps: Int64[np.ndarray, " n"] | None = None  # unix seconds
    labels: Int8[np.ndarray, " n"] | None = None  # the file's own split: 0 train, 1 valid, 2 test
    weights: Float32[np.ndarray, " n"] | None = None  # strength, above 0; None: 1 for each

    def __len__(self) -> int:
        return len(self.users)

    def __repr__(self) -> str:
        more = [name for name in ("ratings", "timestamps", "labels", "weights") if getattr(self, name) is not None]
        return f"Interactions({len(self):,}{', with ' if more else ''}{', '.join(more)})"

    def take(self, chosen: Shaped[np.ndarray, " m"]) -> Interactions:
        """The interactions of a boolean mask or of positions, in that order."""
        columns = (self.ratings, self.timestamps, self.labels, self.weights)
        return Interactions(
            self.users[chosen],
            self.items[chosen],
            *(column if column is None else column[chosen] for column in columns),
        )

    def by_time(self) -> Interactions:
        """The interactions in the order of time; those of one time, or without times, in that of the log."""
        return self if self.timestamps is None else self.take(np.argsort(self.timestamps, kind="stable"))

    def item_counts(self, n_items: int) -> Int64[np.ndarray, " items"]:
        """The number of interactions of each item."""
        return np.bincount(self.items, minlength=n_items).astype(np.int64)

    def user_counts(self, n_users: int) -> Int64[np.ndarray, " users"]:
        """The number of interactions of each user."""
        return np.bincount(self.users, minlength=n_users).astype(np.int64)

    def pairs(self, n_items: int) -> Int64[np.ndarray, " n"]:
        """One number for each interaction, equal for equal pairs of user and item."""
        return self.users.astype(np.int64) * n_items + self.items

    def repeated(self, n_items: int) -> Int64[np.ndarray, " m"]:
        """The positions of the interactions whose pair of user and item occurs more than once."""
        pairs = self.pairs(n_items)
        ordered = np.sort(pairs)
        twice = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
        if not len(twice):
            return np.empty(0, dtype=np.int64)
        nearest = np.minimum(np.searchsorted(twice, pairs), len(twice) - 1)
        return np.flatnonzero(twice[nearest] == pairs)

    @cached_property
    def fingerprint(self) -> str:
        """A digest of the pairs of user and item, in order, and of their weights."""
        return fingerprint(self.users, self.items, *([] if self.weights is None else [self.weights]))
