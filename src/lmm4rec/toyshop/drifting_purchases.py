"""Purchases day by day, for tastes that drift and items that come on sale while the shop is open."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Float32, Float64, Int64

from lmm4rec.core.errors import ConfigError
from lmm4rec.toyshop.purchases import (
    DAY,
    DAYS_OPEN,
    OPENING,
    SEASON_STRENGTH,
    TASTE_STRENGTH,
    Purchases,
    draw_counts,
    draw_ratings,
    draw_stays,
    season_closeness,
)

MOST_NEW = 0.4  # of the items; users buy up to half of them, and the others have to be on sale from the first day
_PERIODS = 40  # in which tastes and the items on sale are the same


def draw_releases(items: int, share: float, rng: np.random.Generator) -> Float64[np.ndarray, " items"]:
    """When each item comes on sale, as a share of all days: 0, or for the new ones evenly spread over the days.

    Raises:
        ConfigError: too many items are new.
    """
    if share > MOST_NEW:
        raise ConfigError(f"new_items = {share:g} of the toy shop can be at most {MOST_NEW:g}")
    released = np.zeros(items)
    new = round(share * items)
    released[rng.permutation(items)[:new]] = (1 + np.arange(new)) / (new + 1)
    return released


def draw_drifting_purchases(
    affinity_at: Callable[[float], Float32[np.ndarray, "users items"]],
    popularity: Float64[np.ndarray, " items"],
    season: Int64[np.ndarray, " items"],
    released: Float64[np.ndarray, " items"],
    *,
    interactions: int,
    rng: np.random.Generator,
) -> Purchases:
    """Purchases in the order of time; a user buys no item twice, and none before it is on sale.

    `affinity_at` is that of each user to each item, after a share of all days.
    """
    users, items = affinity_at(0.0).shape
    counts = draw_counts(users, items, interactions, rng)
    buyers = np.repeat(np.arange(users), counts)
    start, stay = draw_stays(users, rng)
    days = start[buyers] + stay[buyers] * rng.random(len(buyers))
    period = np.minimum((days / DAYS_OPEN * _PERIODS).astype(np.int64), _PERIODS - 1)
    bought, liked = np.empty(len(buyers), np.int64), np.empty(len(buyers), np.float32)
    has = np.zeros((users, items), dtype=bool)
    for now in range(_PERIODS):
        at = np.flatnonzero(period == now)
        affinity, middle = affinity_at((now + 0.5) / _PERIODS), (now + 0.5) / _PERIODS * DAYS_OPEN
        utility = TASTE_STRENGTH * affinity + popularity + SEASON_STRENGTH * season_closeness(np.array(middle), season)
        utility = utility + rng.gumbel(size=utility.shape)
        utility[has | (released > now / _PERIODS)] = -np.inf
        ranking, wanted = np.argsort(-utility, axis=1), np.bincount(buyers[at], minlength=users)
        bought[at] = ranking[np.arange(items) < wanted[:, None]]  # the buyers of `at` ascend, as the rows do
        liked[at] = affinity[buyers[at], bought[at]]
        has[buyers[at], bought[at]] = True
    order = np.argsort(days, kind="stable")
    return Purchases(
        buyers[order].astype(np.int32),
        bought[order].astype(np.int32),
        draw_ratings(liked, rng)[order].astype(np.float32),
        (OPENING + days[order] * DAY).astype(np.int64),
    )
