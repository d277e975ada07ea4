"""Slices: parts of the items, or of the users, on which a metric is reported apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int64

POPULAR_SHARE = 0.2
BY_POPULARITY = ("cold", "warm", "popular", "tail")
USERS = "users"
_PARTS = 3  # of the users, by activity


def item_slices(counts: Int64[np.ndarray, " items"]) -> dict[str, Bool[np.ndarray, " items"]]:
    """The members of each slice, from the number of training interactions of each item.

    - "cold": none.
    - "warm": at least one.
    - "popular": the fifth of the warm items (rounded up) with the most interactions; among equals, the first rows.
    - "tail": the other warm items.
    """
    warm = counts > 0
    popular = np.zeros_like(warm)
    popular[np.argsort(-counts, kind="stable")[: math.ceil(POPULAR_SHARE * warm.sum())]] = True
    return dict(zip(BY_POPULARITY, (~warm, warm, popular, warm & ~popular), strict=True))


def field_slices(
    field: str, values: Sequence[str], counts: Int64[np.ndarray, " items"], most: int
) -> dict[str, Bool[np.ndarray, " items"]]:
    """The items of each value of a catalog field, "FIELD: VALUE", the values with the most interactions first.

    All values beyond the first `most` ones are together in "FIELD: others"; an empty value is "FIELD: none".
    """
    names, group, order = grouped(values, counts)
    slices = {f"{field}: {names[i] or 'none'}": group == i for i in order[:most].tolist()}
    if len(order) > most:
        slices[f"{field}: others"] = np.isin(group, order[most:])
    return slices


def grouped(
    values: Sequence[str], counts: Int64[np.ndarray, " items"]
) -> tuple[list[str], Int64[np.ndarray, " items"], Int64[np.ndarray, " values"]]:
    """The distinct values, the group of each item, and the groups with the most interactions first, then by name."""
    names, group = np.unique(np.asarray(values, dtype=object).astype(str), return_inverse=True)
    totals = np.bincount(group, weights=counts, minlength=len(names))
    return names.tolist(), group.astype(np.int64), np.lexsort((names, -totals)).astype(np.int64)


def user_slices(counts: Int64[np.ndarray, " users"]) -> dict[str, Bool[np.ndarray, " users"]]:
    """The users in thirds by their number of training interactions, "users: FEW to MANY"; equal numbers stay together.

    Fewer than three parts where many users have the same number.
    """
    ends = np.unique(np.quantile(counts, np.arange(1, _PARTS + 1) / _PARTS, method="inverted_cdf").astype(np.int64))
    starts = [int(counts.min()), *(int(end) + 1 for end in ends[:-1])]
    slices = {}
    for start, end in zip(starts, ends.tolist(), strict=True):
        members = (counts >= start) & (counts <= end)
        low, high = int(counts[members].min()), int(counts[members].max())
        slices[f"{USERS}: {low:,}" + (f" to {high:,}" if high > low else "")] = members
    return slices
