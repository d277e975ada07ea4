"""Purchases drawn from affinity, popularity and season."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int32, Int64

from lmm4rec.core.errors import ConfigError
from lmm4rec.toyshop.attributes import SEASONS

FEWEST = 5  # purchases of a user
TASTE_STRENGTH = 1.7
_ZIPF_EXPONENT = 0.5
_NEW, _NEWEST = 0.05, 3.5  # the share of new items, and by how much the newest is less popular
_UNRELEASED = 0.01  # the share of items that are in the catalog and not yet on sale
_USER_SKEW = 0.7
SEASON_STRENGTH = 2.0

DAY = 86_400
OPENING = 1_672_531_200  # 2023-01-01
DAYS_OPEN = 730
_SHORTEST_STAY = 180  # days between a user's first and last possible purchase, at least
_MID_SEASON = {"spring": 105, "summer": 196, "autumn": 288, "winter": 15}  # day of the year
_CANDIDATE_TIMES = 6  # of a purchase; the one that fits the season best is taken


class Purchases(NamedTuple):
    """Parallel columns in the order of time, one entry for each purchase; users and items are row numbers."""

    users: Int32[np.ndarray, " n"]
    items: Int32[np.ndarray, " n"]
    ratings: Float32[np.ndarray, " n"]
    timestamps: Int64[np.ndarray, " n"]  # unix seconds


def draw_popularity(items: int, rng: np.random.Generator) -> Float64[np.ndarray, " items"]:
    """The log-popularity of each item: Zipf's law in random order; low for new items, -inf for unreleased ones."""
    popularity = -_ZIPF_EXPONENT * np.log(1.0 + rng.permutation(items))
    shuffled = rng.permutation(items)
    new, unreleased = max(1, round(_NEW * items)), max(1, round(_UNRELEASED * items))
    popularity[shuffled[:new]] = popularity.min() - rng.uniform(0.5, _NEWEST, new)
    popularity[shuffled[new : new + unreleased]] = -np.inf
    return popularity


def draw_purchases(
    affinity: Float32[np.ndarray, "users items"],
    popularity: Float64[np.ndarray, " items"],
    season: Int64[np.ndarray, " items"],
    *,
    interactions: int,
    rng: np.random.Generator,
) -> Purchases:
    """Purchases in the order of time; a user buys no item twice."""
    users, items = affinity.shape
    counts = draw_counts(users, items, interactions, rng)
    utility = TASTE_STRENGTH * affinity + popularity
    # the first k of utility plus Gumbel noise are k draws from its softmax without replacement
    ranking = np.argsort(-(utility + rng.gumbel(size=utility.shape)), axis=1)
    buyers = np.repeat(np.arange(users), counts)
    bought = ranking[np.arange(items) < counts[:, None]]
    times = _draw_times(buyers, season[bought], users, rng)
    ratings = draw_ratings(affinity[buyers, bought], rng)
    order = np.argsort(times, kind="stable")
    return Purchases(
        buyers[order].astype(np.int32), bought[order].astype(np.int32), ratings[order].astype(np.float32), times[order]
    )


def draw_counts(users: int, items: int, total: int, rng: np.random.Generator) -> Int64[np.ndarray, " users"]:
    """The number of purchases of each user: a few have many, none fewer than `FEWEST`, `total` together."""
    most = items // 2
    if not FEWEST * users <= total <= most * users:
        raise ConfigError(
            f"{users:,} users and {items:,} items of the toy shop can have {FEWEST * users:,} to {most * users:,} "
            f"interactions ({FEWEST} to {most} a user), not {total:,}"
        )
    share = rng.lognormal(0.0, _USER_SKEW, users)
    counts = np.full(users, FEWEST)
    while (missing := total - int(counts.sum())) > 0:
        open_ = np.where(counts < most, share, 0.0)
        more = rng.multinomial(missing, open_ / open_.sum())
        counts = np.minimum(counts + more, most)
    return counts


def draw_ratings(affinity: Float32[np.ndarray, " n"], rng: np.random.Generator) -> Float64[np.ndarray, " n"]:
    """The ratings, 1 to 5, of purchases with this affinity."""
    rounded: Float64[np.ndarray, " n"] = np.clip(
        np.rint(3.4 + 0.6 * affinity + rng.normal(0, 0.5, len(affinity))), 1, 5
    )
    return rounded


def draw_stays(
    users: int, rng: np.random.Generator
) -> tuple[Float64[np.ndarray, " users"], Float64[np.ndarray, " users"]]:
    """The first day of each user's active period, and its length in days."""
    stay = _SHORTEST_STAY + rng.random(users) * (DAYS_OPEN - _SHORTEST_STAY)
    return rng.random(users) * (DAYS_OPEN - stay), stay


def season_closeness(days: Float64[np.ndarray, ...], season: Int64[np.ndarray, " items"]) -> Float64[np.ndarray, ...]:
    """How well days fit the items' seasons, from -1 to 1; 0 for items of all seasons."""
    middle = np.array([_MID_SEASON.get(name, 0) for name in SEASONS])[season]
    seasonal = np.array([name in _MID_SEASON for name in SEASONS])[season]
    if days.ndim > 1:
        middle, seasonal = middle[:, None], seasonal[:, None]
    closeness: Float64[np.ndarray, ...] = seasonal * np.cos(2 * np.pi * (days - middle) / 365.25)
    return closeness


def _draw_times(
    buyers: Int64[np.ndarray, " n"], season: Int64[np.ndarray, " n"], users: int, rng: np.random.Generator
) -> Int64[np.ndarray, " n"]:
    """A time for each purchase, within the user's active period, rather in the item's season than out of it."""
    start, stay = draw_stays(users, rng)
    days = start[buyers, None] + stay[buyers, None] * rng.random((len(buyers), _CANDIDATE_TIMES))
    best = np.argmax(SEASON_STRENGTH * season_closeness(days, season) + rng.gumbel(size=days.shape), axis=1)
    chosen = days[np.arange(len(buyers)), best]
    return (OPENING + chosen * DAY).astype(np.int64)
