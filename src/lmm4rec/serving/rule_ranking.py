"""Lists that are re-ranked by a rule set, with what the rules changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.evaluation.ranking import Ranking
from lmm4rec.serving.answers import Recommendation
from lmm4rec.serving.asked_users import AskedUsers, ScoredUsers
from lmm4rec.serving.bundle_state import BundleState
from lmm4rec.serving.catalog_filters import Filter
from lmm4rec.serving.catalog_view import CatalogView
from lmm4rec.serving.rules import RuleSet

_LEAST_POOL, _POOL = 100, 5  # candidates of a place: at least, and times the length of the list
_OTHERS = "others rank above it by the rules"


class RuledList(NamedTuple):
    """A list by rules: why its items stand there, and why items of the list without rules do not."""

    items: list[Recommendation]
    reasons: Mapping[str, list[str]]  # item -> the boosts, "fresh" and "diversity" that apply to it
    left_out: Mapping[str, str]  # item -> the rule because of which it is missing
    without_rules: list[str]  # the items of the list without rules


def ruled_lists(
    state: BundleState, asked: AskedUsers, k: int, rules: RuleSet, candidates: Bool[Tensor, " rows"] | None
) -> list[RuledList]:
    """The lists of the users, with `k` items or fewer, by a rule set, among the candidates (None: all).

    A boost adds to the scores so many of their standard deviations over all items that the filters and the never-show
    list leave (with an index: over an even sample of 10,000 of these). Places are filled from a pool: the best
    max(100, 5k) of these items by boosted score, for the first places the best fresh ones. Where caps forbid all that
    is left of a pool, the next one has the best of the items that no cap forbids. A place goes to the item with the
    largest (1 - λ) s - λ c: s is the boosted score, scaled to 0 to 1 over the pool, c the largest cosine to an item
    above, λ is `diversity` (maximal marginal relevance, Carbonell and Goldstein 1998, doi 10.1145/290941.291025). The
    first place goes by score alone, and of equal values the one with the highest score is taken. So without diversity
    and without an index, a list is the beginning of each longer one.
    """
    _require_content(state, rules)
    masks = _Masks.of(state.catalog, rules, candidates)
    k = min(k, len(state.catalog))
    size, lists = max(_LEAST_POOL, _POOL * k), list[RuledList]()
    for block in asked.scored_once(state):
        without_rules = block.best(state, k, candidates)
        found = [block.best(state, size, rows) for _, rows in masks.groups]
        found_fresh = [block.best(state, size, rows) for _, rows in masks.fresh_groups]
        deviations = (
            block.deviations(masks.allowed.nonzero()[:, 0]) if rules.boost else [0.0] * len(without_rules.items)
        )
        for at, plain in enumerate(without_rules.items):
            made = _ListInMaking(state, rules, masks, block.alone(at), size, deviations[at])
            if rules.fresh is not None:
                made.fill(min(rules.fresh.places, k), masks.fresh_groups, found_fresh, at)
            made.fill(k, masks.groups, found, at)
            lists.append(made.finished(plain))
    return lists


def check_rules(state: BundleState, rules: RuleSet) -> int:
    """The number of items that the rules leave.

    Raises:
        ConfigError: a column is missing, or the content by which diversity compares.
    """
    _require_content(state, rules)
    return int(_Masks.of(state.catalog, rules, state.catalog.present).allowed.sum())


def _require_content(state: BundleState, rules: RuleSet) -> None:
    if rules.diversity and rules.diversity_by == "content" and not state.features:
        raise ConfigError(
            "diversity_by = 'content' needs the features of the items, and this bundle has none: give its run an "
            "[encoder] table"
        )


@dataclass(frozen=True)
class _Cap:
    """At most so many items of one value of a column."""

    column: str
    numbers: Int64[np.ndarray, " rows"]  # of each row's value; 0 for an empty cell, which does not count
    most: int


_Groups: TypeAlias = Sequence[tuple[float, Bool[Tensor, " rows"]]]
"""Rows to which the same boosts apply, and the sum of these, for each group."""


@dataclass(frozen=True)
class _Masks:
    """The rows that the rules mean."""

    where: Sequence[tuple[Filter, Bool[np.ndarray, " rows"]]]
    never: Bool[np.ndarray, " rows"]
    allowed: Bool[Tensor, " rows"]  # by both of these, and by the caller
    boosts: Sequence[Bool[np.ndarray, " rows"]]
    fresh: Bool[np.ndarray, " rows"]
    groups: _Groups  # of the allowed rows
    fresh_groups: _Groups  # of the fresh ones among these
    caps: Sequence[_Cap]

    @classmethod
    def of(cls, catalog: CatalogView, rules: RuleSet, candidates: Bool[Tensor, " rows"] | None) -> _Masks:
        def passing(filters: Iterable[Filter]) -> Tensor:
            return reduce(torch.logical_and, map(catalog.passing, filters), torch.ones(len(catalog), dtype=torch.bool))

        never = catalog.marked(rules.never)
        allowed = passing(rules.where) & ~never
        allowed = allowed if candidates is None else allowed & candidates
        boosts = [(boost.by, passing(boost.where)) for boost in rules.boost]
        fresh = passing(rules.fresh.where) if rules.fresh else torch.zeros_like(allowed)
        return cls(
            where=[(one, catalog.passing(one).numpy()) for one in rules.where],
            never=never.numpy(),
            allowed=allowed,
            boosts=[applies.numpy() for _, applies in boosts],
            fresh=fresh.numpy(),
            groups=_groups(allowed, boosts),
            fresh_groups=_groups(allowed & fresh, boosts) if rules.fresh else [],
            caps=[_Cap(column, catalog.values(column)[0], most) for column, most in rules.most],
        )


def _groups(rows: Bool[Tensor, " rows"], boosts: _Groups) -> _Groups:
    """The groups of some rows; inside each, boosts change no order, so the best of all are among the best of each."""
    groups = [(0.0, rows)]
    for by, applies in boosts:
        halves = [half for total, mask in groups for half in ((total, mask & ~applies), (total + by, mask & applies))]
        groups = [(total, mask) for total, mask in halves if mask.any()]
    return groups


class _Pool(NamedTuple):
    """Items from which places are filled, by descending boosted score; of equal ones by the model's, then by row."""

    rows: Int64[np.ndarray, " pool"]
    scores: Float[np.ndarray, " pool"]  # of the model
    boosted: Float[np.ndarray, " pool"]

    def take(self, chosen: Bool[np.ndarray, " pool"] | Int64[np.ndarray, " chosen"]) -> _Pool:
        """The items of a mask, or in these places."""
        return _Pool(*(part[chosen] for part in self))


class _ListInMaking:
    """The list of one user while its places are filled, from the first to the last."""

    def __init__(
        self,
        state: BundleState,
        rules: RuleSet,
        masks: _Masks,
        user: AskedUsers | ScoredUsers,
        size: int,
        deviation: float,
    ) -> None:
        self._state, self._rules, self._masks, self._user = state, rules, masks, user
        self._size, self._deviation = size, deviation
        self._chosen: dict[int, float] = {}  # row -> the model's score, best first
        self._raised: set[int] = set()  # the rows that diversity put above a better one
        self._counts = Counter[tuple[str, int]]()  # of the items in the list, by column and value
        self._full: list[tuple[_Cap, int]] = []  # the caps that are reached, and for which value

    def fill(self, places: int, groups: _Groups, found: Sequence[Ranking], at: int) -> None:
        """Fill the list up to so many places, as far as the groups last; `found` has the best of each in row `at`."""
        pool = self._pool(groups, found, at)
        while len(self._chosen) < places and len(pool.rows):
            self._choose(pool, places)
            if len(self._chosen) < places:  # the others that no cap forbids
                free = torch.from_numpy(self._is_free(np.arange(len(self._state.catalog))))
                groups = [(by, rows & free) for by, rows in groups]
                pool = self._pool(groups, [self._user.best(self._state, self._size, rows) for _, rows in groups])

    def _pool(self, groups: _Groups, found: Sequence[Ranking], at: int = 0) -> _Pool:
        """The best of all groups."""
        parts = [_Pool(np.empty(0, np.int64), np.empty(0), np.empty(0))]
        for (by, _), best in zip(groups, found, strict=True):
            there = best.items[at] >= 0
            scores = best.scores[at][there].astype(np.float64)
            parts.append(_Pool(best.items[at][there], scores, scores + by * self._deviation))
        pool = _Pool(*map(np.concatenate, zip(*parts, strict=True)))
        return pool.take(np.lexsort((pool.rows, -pool.scores, -pool.boosted))[: self._size])

    def _is_free(self, rows: Int64[np.ndarray, " rows"]) -> Bool[np.ndarray, " rows"]:
        """Whether each row is neither in the list nor forbidden by a cap."""
        free = ~np.isin(rows, list(self._chosen))
        for cap in self._masks.caps:
            free &= ~np.isin(cap.numbers[rows], [number for one, number in self._full if one is cap])
        return free

    def _choose(self, pool: _Pool, places: int) -> None:
        """Fill places from a pool until none of its rows is free."""
        pool = pool.take(self._is_free(pool.rows))
        diversity, free = self._rules.diversity, np.ones(len(pool.rows), dtype=bool)
        relevance, nearest = _scaled(pool.boosted), np.zeros(len(free))
        if diversity:
            alike = self._state.cosines(np.array([*pool.rows, *self._chosen]), self._rules.diversity_by)[: len(free)]
            nearest = alike[:, len(free) :].max(1, initial=-np.inf)
        while len(self._chosen) < places and free.any():
            best = first = int(free.argmax())
            if diversity and self._chosen:
                value = (1 - diversity) * relevance - diversity * nearest
                best = int(np.where(free, value, -np.inf).argmax())
                self._raised |= {int(pool.rows[best])} if pool.boosted[best] < pool.boosted[first] else set()
            if diversity:
                nearest = np.maximum(nearest, alike[:, best])
            free[best] = False
            self._take(pool, best, free)

    def _take(self, pool: _Pool, at: int, free: Bool[np.ndarray, " pool"]) -> None:
        """Put a row of a pool into the list; those that a cap forbids then are no longer free."""
        row = int(pool.rows[at])
        self._chosen[row] = float(pool.scores[at])
        for cap in self._masks.caps:
            number = int(cap.numbers[row])
            self._counts[cap.column, number] += 1
            if number and self._counts[cap.column, number] == cap.most:
                free &= cap.numbers[pool.rows] != number
                self._full.append((cap, number))

    def finished(self, without_rules: Int64[np.ndarray, " k"]) -> RuledList:
        """The list, with what the rules changed in the one without them."""
        catalog = self._state.catalog
        plain = without_rules[without_rules >= 0].tolist()
        reasons = {catalog.id(row): self._reasons(row, place) for place, row in enumerate(self._chosen)}
        left_out = {catalog.id(row): self._why_not(row) for row in plain if row not in self._chosen}
        items = self._state.recommendations(list(self._chosen), list(self._chosen.values()))
        return RuledList(
            items, {id_: why for id_, why in reasons.items() if why}, left_out, [catalog.id(row) for row in plain]
        )

    def _reasons(self, row: int, place: int) -> list[str]:
        rules, masks = self._rules, self._masks
        why = [str(boost) for boost, applies in zip(rules.boost, masks.boosts, strict=True) if applies[row]]
        if rules.fresh is not None and place < rules.fresh.places and masks.fresh[row]:
            why.append("fresh")
        return [*why, f"diversity {rules.diversity:g}"] if row in self._raised else why

    def _why_not(self, row: int) -> str:
        """The rule because of which an item of the list without rules is missing."""
        if self._masks.never[row]:
            return "never shown"
        for one, passing in self._masks.where:
            if not passing[row]:
                return f"only {one}"
        for cap, number in self._full:
            if cap.numbers[row] == number:
                value = self._state.catalog.values(cap.column)[1][row]
                return f"at most {cap.most} of {cap.column}={value}"
        return _OTHERS


def _scaled(scores: Float[np.ndarray, " pool"]) -> Float[np.ndarray, " pool"]:
    """Descending scores, scaled to 0 to 1."""
    low, high = (scores[-1], scores[0]) if len(scores) else (0.0, 0.0)
    return (scores - low) / max(high - low, 1e-12)
