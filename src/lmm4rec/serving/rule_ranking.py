"""Lists that are re-ranked by a rule set, with what the rules changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.serving.answers import Recommendation
from lmm4rec.serving.asked_users import AskedUsers
from lmm4rec.serving.bundle_state import BundleState
from lmm4rec.serving.catalog_filters import Filter
from lmm4rec.serving.catalog_view import CatalogView
from lmm4rec.serving.rules import RuleSet

_LEAST_POOL, _POOL = 100, 5  # candidates of a list: at least, and times its length
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

    Ranked are the best items that the filters and the never-show list leave, and the best ones of each boost and of
    the fresh items, so that these are found wherever they rank. A place goes to the item with the largest
    (1 - λ) s - λ c among those that no cap forbids: s is the boosted score, scaled to 0 to 1 over the ranked items, c
    the largest cosine to an item above, λ is `diversity` (maximal marginal relevance, Carbonell and Goldstein 1998,
    doi 10.1145/290941.291025).
    """
    _require_content(state, rules)
    masks = _Masks.of(state.catalog, rules, candidates)
    k = min(k, len(state.catalog))
    lists: list[RuledList] = []
    for block in asked.scored_once(state):
        without_rules = block.best(state, k, candidates)
        found = [block.best(state, max(_LEAST_POOL, _POOL * k), mask) for mask in masks.searched]
        lists += [
            _ruled_list(state, rules, masks, k, [(one.items[at], one.scores[at]) for one in found], plain)
            for at, plain in enumerate(without_rules.items)
        ]
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
class _Masks:
    """The rows that the rules mean."""

    where: Sequence[tuple[Filter, Bool[Tensor, " rows"]]]
    never: Bool[Tensor, " rows"]
    allowed: Bool[Tensor, " rows"]  # by both of these, and by the caller
    boosts: Sequence[Bool[Tensor, " rows"]]
    fresh: Bool[Tensor, " rows"] | None
    caps: Sequence[tuple[str, Int64[np.ndarray, " rows"], int]]  # column, the number of each row's value, the most

    @classmethod
    def of(cls, catalog: CatalogView, rules: RuleSet, candidates: Bool[Tensor, " rows"] | None) -> _Masks:
        def passing(filters: Iterable[Filter]) -> Tensor:
            return reduce(torch.logical_and, map(catalog.passing, filters), torch.ones(len(catalog), dtype=torch.bool))

        never = catalog.marked(rules.never)
        allowed = passing(rules.where) & ~never
        return cls(
            where=[(one, catalog.passing(one)) for one in rules.where],
            never=never,
            allowed=allowed if candidates is None else allowed & candidates,
            boosts=[passing(boost.where) for boost in rules.boost],
            fresh=passing(rules.fresh.where) if rules.fresh else None,
            caps=[(column, catalog.values(column)[0], most) for column, most in rules.most],
        )

    @property
    def searched(self) -> list[Bool[Tensor, " rows"]]:
        """The rows among which the best ones are looked for: first all allowed ones."""
        return [self.allowed, *(self.allowed & one for one in [*self.boosts, self.fresh] if one is not None)]


def _ruled_list(
    state: BundleState,
    rules: RuleSet,
    masks: _Masks,
    k: int,
    found: Sequence[tuple[Int64[np.ndarray, " pool"], Float[np.ndarray, " pool"]]],
    without_rules: Int64[np.ndarray, " k"],
) -> RuledList:
    every, plain = (np.concatenate(parts) for parts in zip(*found, strict=True))
    there = np.isfinite(plain) & (every >= 0)
    rows, first = np.unique(every[there], return_index=True)
    scores = plain[there][first].astype(np.float64)
    main = found[0][1][np.isfinite(found[0][1])]
    deviation = float(main.std()) if len(main) else 0.0
    boosts = [mask.numpy()[rows] for mask in masks.boosts]
    boosted = scores.copy()
    for boost, applies in zip(rules.boost, boosts, strict=True):
        boosted += boost.by * deviation * applies
    fresh = np.zeros(len(rows), dtype=bool) if masks.fresh is None else masks.fresh.numpy()[rows]
    chosen, raised, forbidden = _select(state, rules, masks, rows, boosted, fresh, k)
    catalog = state.catalog
    reasons = {}
    fresh_places = rules.fresh.places if rules.fresh else 0
    for place, at in enumerate(chosen):
        why = [str(boost) for boost, applies in zip(rules.boost, boosts, strict=True) if applies[at]]
        why += ["fresh"] if fresh[at] and place < fresh_places else []
        why += [f"diversity {rules.diversity:g}"] if at in raised else []
        if why:
            reasons[catalog.id(int(rows[at]))] = why
    plain_rows = without_rules[without_rules >= 0].tolist()
    listed = set(rows[chosen].tolist())
    left_out = {catalog.id(row): _why_not(masks, row, forbidden) for row in plain_rows if row not in listed}
    items = state.recommendations(rows[chosen].tolist(), scores[chosen].tolist())
    return RuledList(items, reasons, left_out, [catalog.id(row) for row in plain_rows])


def _select(
    state: BundleState,
    rules: RuleSet,
    masks: _Masks,
    rows: Int64[np.ndarray, " ranked"],
    scores: Float[np.ndarray, " ranked"],
    fresh: Bool[np.ndarray, " ranked"],
    k: int,
) -> tuple[list[int], set[int], dict[int, str]]:
    """The places of the chosen rows, best first; those that diversity put above a better one; caps that forbid rows."""
    if not len(rows):
        return [], set(), {}
    low, high = scores.min(), scores.max()
    relevance = (1 - rules.diversity) * (scores - low) / max(high - low, 1e-12)
    alike = state.cosines(rows, rules.diversity_by) if rules.diversity else None
    nearest = np.full(len(rows), -np.inf)
    caps = [(column, numbers[rows], most, np.zeros(len(rows), dtype=np.int64)) for column, numbers, most in masks.caps]
    free, places = np.ones(len(rows), dtype=bool), rules.fresh.places if rules.fresh else 0
    chosen, raised, forbidden = list[int](), set[int](), dict[int, str]()
    while len(chosen) < k and free.any():
        candidates = free & fresh if places > len(chosen) and (free & fresh).any() else free
        value = np.where(candidates, relevance, -np.inf)
        best = int(value.argmax())
        if alike is not None and chosen:
            most_relevant, best = best, int((value - rules.diversity * nearest).argmax())
            raised |= {best} if relevance[best] < relevance[most_relevant] else set()
        chosen.append(best)
        free[best] = False
        if alike is not None:
            nearest = np.maximum(nearest, alike[:, best])
        for column, numbers, most, counts in caps:
            if not numbers[best]:
                continue
            same = numbers == numbers[best]
            counts[same] += 1
            if counts[best] == most:
                over = np.flatnonzero(same & free)
                free[over] = False
                value_of = state.catalog.values(column)[1][int(rows[best])]
                forbidden |= dict.fromkeys(rows[over].tolist(), f"at most {most} of {column}={value_of}")
    return chosen, raised, forbidden


def _why_not(masks: _Masks, row: int, forbidden: Mapping[int, str]) -> str:
    """The rule because of which an item of the list without rules is missing."""
    if masks.never[row]:
        return "never shown"
    for one, passing in masks.where:
        if not passing[row]:
            return f"only {one}"
    return forbidden.get(row, _OTHERS)
