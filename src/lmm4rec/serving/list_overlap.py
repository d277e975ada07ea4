"""Overlap of two sets of lists: as sets (overlap, Jaccard) and by rank (rank-biased overlap)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

_PERSISTENCE = 0.9  # of rank-biased overlap: the first ten ranks have 86 % of its weight
_BLOCK = 1024  # users compared at once


@dataclass(frozen=True)
class ListOverlap:
    """How alike two lists of each user are, as means over users."""

    overlap: float  # items in both lists; denominator: the length of the longer list
    jaccard: float  # items in both lists; denominator: items in either
    rank_biased: float  # agreement at each depth, the first ones weighted most
    changed: float  # the share of the users whose lists differ in an item or in the order
    first_changed: float  # the share of the users whose first item differs


def list_overlap(before: Int64[np.ndarray, "users k"], after: Int64[np.ndarray, "users k"]) -> ListOverlap:
    """The overlap of two lists of each user, best item first; -1 pads shorter lists."""
    lengths = [(top >= 0).sum(1) for top in (before, after)]
    shared = np.concatenate([_shared(before[at : at + _BLOCK], after[at : at + _BLOCK]) for at in _starts(before)])
    common, longest = shared[:, -1], np.maximum(*lengths)
    either = lengths[0] + lengths[1] - common
    return ListOverlap(
        overlap=_mean_ratio(common, longest),
        jaccard=_mean_ratio(common, either),
        rank_biased=float(_rank_biased(shared, *lengths).mean()),
        changed=float((before != after).any(1).mean()),
        first_changed=float((before[:, 0] != after[:, 0]).mean()),
    )


def _starts(lists: Int64[np.ndarray, "users k"]) -> range:
    return range(0, len(lists), _BLOCK)


def _shared(before: Int64[np.ndarray, "users k"], after: Int64[np.ndarray, "users k"]) -> Int64[np.ndarray, "users k"]:
    """The number of items that the first d items of both lists have in common, for d = 1 to k."""
    k = before.shape[1]
    same = (before[:, :, None] == after[:, None, :]) & (before[:, :, None] >= 0)
    user, first, second = np.nonzero(same)
    met = np.bincount(user * k + np.maximum(first, second), minlength=len(before) * k).reshape(-1, k)
    return met.cumsum(1)


def _rank_biased(
    shared: Int64[np.ndarray, "users k"], before: Int64[np.ndarray, " users"], after: Int64[np.ndarray, " users"]
) -> Float64[np.ndarray, " users"]:
    """Rank-biased overlap, extrapolated from the agreement at the last rank (Webber, Moffat and Zobel 2010, eq. 23).

    RBO = A_k p^k + (1 - p) / p * sum_d A_d p^d, with A_d the share of the first d items that both lists have. A list
    that is shorter than d agrees there as far as the longer one goes.
    """
    depth, p = np.arange(1, shared.shape[1] + 1), _PERSISTENCE
    agreement = shared / np.maximum(np.minimum(depth, np.maximum(before, after)[:, None]), 1)
    agreement[np.maximum(before, after) == 0] = 1.0
    value: Float64[np.ndarray, " users"] = agreement[:, -1] * p ** depth[-1] + (1 - p) / p * agreement @ p**depth
    return value


def _mean_ratio(part: Int64[np.ndarray, " users"], whole: Int64[np.ndarray, " users"]) -> float:
    """The mean of part / whole over users; 1 where both lists are empty."""
    return float(np.where(whole > 0, part / np.maximum(whole, 1), 1.0).mean())
