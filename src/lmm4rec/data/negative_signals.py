"""Negative signals: dislikes, skips and low ratings, kept apart from the interactions, which are all positive."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl
from jaxtyping import Bool, Int8, Int32, Int64, Shaped

from lmm4rec.data.interactions import Interactions

POSITIVE_KINDS = ("interaction", "like", "bought", "purchase", "view", "click")
NEGATIVE_KINDS = ("dislike", "skip")
LOW_RATING = "low rating"


def _empty() -> Int32[np.ndarray, " n"]:
    return np.empty(0, np.int32)


@dataclass(frozen=True)
class NegativeSignals:
    """Parallel columns, one entry a signal; users and items are rows of their vocabularies, kinds rows of `names`."""

    users: Int32[np.ndarray, " n"] = field(default_factory=_empty)
    items: Int32[np.ndarray, " n"] = field(default_factory=_empty)
    kinds: Int8[np.ndarray, " n"] = field(default_factory=lambda: np.empty(0, np.int8))
    names: tuple[str, ...] = ()
    timestamps: Int64[np.ndarray, " n"] | None = None  # unix seconds

    def __len__(self) -> int:
        return len(self.users)

    def __repr__(self) -> str:
        return f"NegativeSignals({len(self):,}{': ' if len(self) else ''}{self.summary()})"

    @property
    def counts(self) -> dict[str, int]:
        """The number of signals of each kind, the most frequent first."""
        counts = np.bincount(self.kinds, minlength=len(self.names)).tolist()
        return dict(sorted(zip(self.names, counts, strict=True), key=lambda one: -one[1]))

    def summary(self) -> str:
        """The counts as text: "12 dislike, 3 skip"."""
        return ", ".join(f"{count:,} {name}" for name, count in self.counts.items() if count)

    @classmethod
    def from_frame(cls, frame: pl.DataFrame) -> NegativeSignals:
        """The signals of a frame as `to_frame` returns it."""
        names, kinds = np.unique(frame["kind"].to_numpy(), return_inverse=True)
        users, items = (frame[name].to_numpy().astype(np.int32) for name in ("user", "item"))
        times = frame["timestamp"].to_numpy() if "timestamp" in frame.columns else None
        return cls(users, items, kinds.astype(np.int8), tuple(names.tolist()), times)

    def to_frame(self) -> pl.DataFrame:
        """A row for each signal: user, item, kind by name and, where there are times, timestamp."""
        kinds = pl.Series(self.names, dtype=pl.String)[self.kinds.tolist()]
        frame = pl.DataFrame({"user": self.users, "item": self.items, "kind": kinds})
        return frame if self.timestamps is None else frame.with_columns(timestamp=pl.Series(self.timestamps))

    def take(self, chosen: Shaped[np.ndarray, " m"]) -> NegativeSignals:
        """The signals of a boolean mask or of positions, in that order."""
        times = None if self.timestamps is None else self.timestamps[chosen]
        return NegativeSignals(self.users[chosen], self.items[chosen], self.kinds[chosen], self.names, times)

    def keep(self, users: Bool[np.ndarray, " users"], items: Bool[np.ndarray, " items"]) -> NegativeSignals:
        """The signals of the chosen users on the chosen items, renumbered as `Dataset.keep` renumbers them."""
        left = self.take(users[self.users] & items[self.items])
        new_user, new_item = np.cumsum(users, dtype=np.int32) - 1, np.cumsum(items, dtype=np.int32) - 1
        return replace(left, users=new_user[left.users], items=new_item[left.items])

    def joined(self, other: NegativeSignals) -> NegativeSignals:
        """These signals and then the others; with times where both have them."""
        if not len(self) or not len(other):
            return self if len(self) else other
        names = tuple(dict.fromkeys((*self.names, *other.names)))
        kinds = np.array([names.index(name) for name in other.names], np.int8)[other.kinds]
        own = np.array([names.index(name) for name in self.names], np.int8)[self.kinds]
        timed = self.timestamps is not None and other.timestamps is not None
        return NegativeSignals(
            np.concatenate([self.users, other.users]),
            np.concatenate([self.items, other.items]),
            np.concatenate([own, kinds]),
            names,
            np.concatenate([self.timestamps, other.timestamps]) if timed else None,
        )

    def without(self, positives: Interactions, n_items: int) -> NegativeSignals:
        """The signals whose pair of user and item is not among these positives: of contradictions the positive wins."""
        pairs = self.users.astype(np.int64) * n_items + self.items
        return self.take(~np.isin(pairs, positives.pairs(n_items)))
