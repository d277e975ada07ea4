"""Results of a comparison of two bundles, by `serving.bundle_comparison`, as types and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from lmm4rec.serving.list_overlap import ListOverlap


@dataclass(frozen=True)
class Presence:
    """The number of users, or items, that both bundles know, and that only one of them knows."""

    both: int
    only_before: int
    only_after: int


@dataclass(frozen=True)
class Exposure:
    """The share of the users whose list has an item, before and after."""

    item: str
    title: str
    before: float
    after: float


@dataclass(frozen=True)
class Measured:
    """A metric of both bundles on the same users: its means, and their difference, with standard errors over users.

    A standard error is not a number where there are fewer than two users.
    """

    users: int
    before: float
    after: float
    difference: float  # after - before
    standard_error: float  # of the difference
    before_error: float
    after_error: float

    @classmethod
    def of(cls, before: Float64[np.ndarray, " users"], after: Float64[np.ndarray, " users"]) -> Measured:
        """The means of these values by user."""
        (old, old_error), (new, new_error), (change, error) = map(_mean, (before, after, after - before))
        return cls(len(before), old, new, change, error, old_error, new_error)


def _mean(values: Float64[np.ndarray, " users"]) -> tuple[float, float]:
    """The mean and its standard error."""
    n = len(values)
    mean = float(values.mean()) if n else float("nan")
    return mean, float(values.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")


@dataclass(frozen=True)
class RecentQuality:
    """The quality of both bundles on recent interactions.

    `all_items` is a full ranking of each bundle's own items; a recent item that a bundle lacks is a miss for it.
    `common_items` counts and ranks only items that both have. Both are over users that both bundles know;
    `new_users` is over those that only the later bundle knows, whose value before is 0.
    """

    metric: str
    interactions: int  # with a user that both know and an item that one of them knows
    all_items: Measured
    common_items: Measured
    new_users: Measured
    better: int  # users whose value is higher after than before
    worse: int
    by_activity: Mapping[str, Measured]  # users in thirds by the number of their earlier interactions
    of_unknown_users: int  # interactions with a user that the later bundle lacks
    of_unknown_items: int  # interactions with an item that both lack


@dataclass(frozen=True)
class BundleComparison:
    """What differs between two bundles."""

    k: int
    users: Presence
    items: Presence
    overlap: ListOverlap
    gaining: Sequence[Exposure]  # the items whose share of lists rises most
    losing: Sequence[Exposure]
    recent: RecentQuality | None  # None without recent interactions

    def to_json(self) -> dict[str, Any]:
        """The comparison as JSON can hold it: what is not a number is null."""
        content: dict[str, Any] = _without_nan(asdict(self))
        return content


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _without_nan(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and np.isnan(value) else value
