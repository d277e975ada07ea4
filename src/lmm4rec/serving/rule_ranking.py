"""Lists that are re-ranked by a rule set, with what the rules changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple, TypeAlias

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lmm4rec.evaluation.ranking import Ranking
from lmm4rec.serving.answers import Recommendation
from lmm4rec.serving.bundle_state import BundleState
from lmm4rec.serving.catalog_filters import Filter, require_column
from lmm4rec.serving.rules import RuleSet

_LEAST_POOL, _POOL = 100, 5  # candidates of a list: at least, and times its length

Search: TypeAlias = Callable[[int, "Bool[Tensor, ' rows'] | None"], Ranking]
"""The best items of some users among candidate rows (None: all)."""


class RuledList(NamedTuple):
    """A list by rules: why its items stand there, and why items of the list without rules do not."""

    items: list[Recommendation]
    reasons: Mapping[str, list[str]]  # item -> the boosts and "fresh" that apply to it
    left_out: Mapping[str, str]  # item -> the rule because of which it is missing


def ruled_lists(state: BundleState, search: Search, k: int, rules: RuleSet) -> list[RuledList]:
    """The lists of the users of a search, with `k` items or fewer, by a rule set.

    Candidates are the best items that the filters and the never-show list leave, and the best ones of each boost and of
    the fresh items, so that these are found wherever they rank. A place goes to the candidate with the largest
    (1 - λ) s - λ c among those that no cap forbids: s is the boosted score, scaled to 0 to 1 over the candidates, c the
    largest cosine to an item above, λ is `diversity` (maximal marginal relevance, Carbonell and Goldstein 1998,
    doi 10.1145/290941.291025).
    """
    masks = _Masks.of(state, rules)
    pool = max(_LEAST_POOL, _POOL * k)
    without_rules = search(k, state.catalog.present if state.catalog.removed else None)
    found = [search(pool, masks.allowed)]
    found += [search(pool, masks.allowed & boosted) for boosted in masks.boosts]
    if rules.fresh is not None:
        found.append(search(pool, masks.allowed & masks.fresh))
    return [
        _ruled_list(state, rules, masks, k, [(one.items[at], one.scores[at]) for one in found], items)
        for at, items in enumerate(without_rules.items.tolist())
    ]


@dataclass(frozen=True)
class _Masks:
    """The rows that the rules mean."""

    where: Sequence[tuple[Filter, Bool[Tensor, " rows"]]]
    never: Bool[Tensor, " rows"]
    allowed: Bool[Tensor, " rows"]  # by both of these
    boosts: Sequence[Bool[Tensor, " rows"]]
    fresh: Bool[Tensor, " rows"]
    caps: Sequence[tuple[str, Sequence[str], int]]  # column, the value of each row, the most of one value

    @classmethod
    def of(cls, state: BundleState, rules: RuleSet) -> _Masks:
        columns, catalog = state.catalog.columns, state.catalog

        def passing(one: Filter) -> Tensor:
            return torch.from_numpy(one.passing(columns).to_numpy().copy())

        def passing_all(masks: Iterable[Tensor]) -> Tensor:
            return reduce(torch.logical_and, masks, torch.ones(len(catalog), dtype=torch.bool))

        never = torch.zeros(len(catalog), dtype=torch.bool)
        never[[catalog.row(id_) for id_ in rules.never if catalog.has(id_)]] = True
        where = [(one, passing(one)) for one in rules.where]
        return cls(
            where=where,
            never=never,
            allowed=passing_all(mask for _, mask in where) & ~never & catalog.present,
            boosts=[passing_all(map(passing, boost.where)) for boost in rules.boost],
            fresh=passing_all(map(passing, rules.fresh.where if rules.fresh else ())),
            caps=[
                (column, columns[require_column(column, columns)].cast(pl.String).fill_null("").to_list(), most)
                for column, most in rules.most.items()
            ],
        )


def _ruled_list(
    state: BundleState,
    rules: RuleSet,
    masks: _Masks,
    k: int,
    found: Sequence[tuple[Int64[np.ndarray, " pool"], Float[np.ndarray, " pool"]]],
    without_rules: Sequence[int],
) -> RuledList:
    every, plain = (np.concatenate(parts) for parts in zip(*found, strict=True))
    there = np.isfinite(plain) & (every >= 0)
    rows, first = np.unique(every[there], return_index=True)
    scores = plain[there][first].astype(np.float64)
    main = found[0][1][np.isfinite(found[0][1])]
    deviation = float(main.std()) if len(main) else 0.0
    boosted = scores.copy()
    for boost, mask in zip(rules.boost, masks.boosts, strict=True):
        boosted += boost.by * deviation * mask.numpy()[rows]
    chosen, forbidden = _select(state, rules, masks, rows, boosted, k)
    catalog = state.catalog
    reasons = {}
    for row in rows[chosen].tolist():
        why = [str(boost) for boost, mask in zip(rules.boost, masks.boosts, strict=True) if mask[row]]
        why += ["fresh"] if rules.fresh is not None and masks.fresh[row] else []
        if why:
            reasons[catalog.id(row)] = why
    listed = set(rows[chosen].tolist())
    left_out = {
        catalog.id(row): _why_not(masks, row, forbidden) for row in without_rules if row >= 0 and row not in listed
    }
    return RuledList(state.recommendations(rows[chosen].tolist(), scores[chosen].tolist()), reasons, left_out)


def _select(
    state: BundleState,
    rules: RuleSet,
    masks: _Masks,
    rows: Int64[np.ndarray, " candidates"],
    scores: Float[np.ndarray, " candidates"],
    k: int,
) -> tuple[list[int], dict[int, str]]:
    """The places of the chosen candidates, best first, and the caps that forbid rows."""
    low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 0.0)
    relevance = (1 - rules.diversity) * (scores - low) / max(high - low, 1e-12)
    alike = state.similarity(rows, rows).numpy() if rules.diversity and len(rows) else None
    nearest = np.zeros(len(rows))
    fresh, left = masks.fresh.numpy()[rows], rules.fresh.places if rules.fresh else 0
    free, chosen = np.ones(len(rows), dtype=bool), list[int]()
    counts, forbidden = dict[tuple[str, str], int](), dict[int, str]()
    while len(chosen) < k and free.any():
        candidates = free & fresh if left > len(chosen) and (free & fresh).any() else free
        value = np.where(candidates, relevance - rules.diversity * nearest, -np.inf)
        best = int(value.argmax())
        chosen.append(best)
        free[best] = False
        if alike is not None:
            nearest = np.maximum(nearest, alike[:, best]) if len(chosen) > 1 else alike[:, best].copy()
        for column, values, most in masks.caps:
            cell = values[rows[best]]
            if not cell:
                continue
            counts[column, cell] = counts.get((column, cell), 0) + 1
            if counts[column, cell] == most:
                for at in np.flatnonzero(free):
                    if values[rows[at]] == cell:
                        free[at] = False
                        forbidden[int(rows[at])] = f"at most {most} of {column}={cell}"
    return chosen, forbidden


def _why_not(masks: _Masks, row: int, forbidden: Mapping[int, str]) -> str:
    """The rule because of which an item of the list without rules is missing."""
    if masks.never[row]:
        return "never shown"
    for one, passing in masks.where:
        if not passing[row]:
            return f"only {one}"
    return forbidden.get(row, "others rank above it by the rules")
