"""Comparison of two bundles: overlap of their lists, items that gain or lose exposure, quality on recent interactions.

Both rank all of their items for the users that both know. Items that a user has interacted with in either bundle are in
neither list, so that what differs are the models and catalogs, not the histories.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import Bool, Float64, Int64

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.sequences import SequenceScorer
from lmm4rec.core.types import Scorer
from lmm4rec.data.interactions import Interactions
from lmm4rec.evaluation.known_sequences import sequences_of
from lmm4rec.evaluation.metrics import Metric, measure
from lmm4rec.evaluation.ranking import interaction_matrix, restrict, top_k
from lmm4rec.evaluation.slices import user_slices
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.comparison_results import BundleComparison, Exposure, Measured, Presence, RecentQuality
from lmm4rec.serving.list_overlap import list_overlap

_SHOWN = 10  # items that gain or lose most


def compare_bundles(
    before: Bundle,
    after: Bundle,
    k: int = 20,
    *,
    recent: pl.DataFrame | None = None,
    metric: Metric = "recall",
    most_users: int | None = None,
) -> BundleComparison:
    """The comparison of two bundles by lists of `k` items; with `most_users` by those of an even sample of the users.

    `recent` is a table of interactions with the columns user and item. They count as unseen, even where they are in
    the history of a bundle; whether it was trained on them, the caller has to know.

    Raises:
        ConfigError: `k` is below 1, or a column is missing.
        DataError: the bundles have no user in common.
    """
    if k < 1:
        raise ConfigError(f"k must be at least 1, got {k}")
    pair = _Pair(before, after)
    if not pair.users:
        raise DataError("the two bundles have no user in common: are they of the same shop?")
    k = min(k, len(before.items), len(after.items))
    wanted = None if recent is None else _Wanted.of(recent, pair)
    step = 1 if most_users is None else -(-len(pair.users) // most_users)
    lists = [one.lists(pair.users[::step], k) for one in pair.sides]
    gaining, losing = _exposures(lists, pair)
    return BundleComparison(
        k,
        users=_presence(before.users, after.users),
        items=_presence(before.items, after.items),
        overlap=list_overlap(*lists),
        gaining=gaining,
        losing=losing,
        recent=None if wanted is None else _recent_quality(pair, wanted, k, metric),
    )


class _Pair:
    """Two bundles with one numbering of their items, and the users that both know."""

    def __init__(self, before: Bundle, after: Bundle) -> None:
        self.items = list(dict.fromkeys([*before.items, *after.items]))
        self.code = {item: code for code, item in enumerate(self.items)}
        self.users = [user for user in before.users if user in after.users]
        self.sides = [_Side(one, self.code) for one in (before, after)]
        known = pl.concat([side.known for side in self.sides]).unique(maintain_order=True)
        for side in self.sides:
            side.exclude(known)

    @property
    def in_both(self) -> Bool[np.ndarray, " items"]:
        """Whether each item is in both bundles."""
        has: Bool[np.ndarray, " items"] = self.sides[0].has & self.sides[1].has
        return has


class _Side:
    """One of the two bundles, with its items in the numbering of both."""

    def __init__(self, bundle: Bundle, code: Mapping[str, int]) -> None:
        self.bundle, catalog = bundle, bundle.catalog
        self.code_of_row = np.full(len(catalog), -1, np.int64)  # -1: a removed item
        ids = list(bundle.items)
        self.code_of_row[catalog.rows(ids)] = [code[item] for item in ids]
        self.row_of_code = np.full(len(code), -1, np.int64)
        present = self.code_of_row >= 0
        self.row_of_code[self.code_of_row[present]] = np.flatnonzero(present)
        self.has = self.row_of_code >= 0
        users = pl.Series(list(bundle.users), dtype=pl.String)
        logs = (bundle.seen, bundle.disliked)
        self.known = pl.concat(
            [
                pl.DataFrame({"user": users[log.users.tolist()], "item": pl.Series(self.code_of_row[log.items])})
                for log in logs
            ]
        ).filter(pl.col("item") >= 0)

    def exclude(self, known: pl.DataFrame) -> None:
        """Leave these pairs of user and item out of the lists."""
        self._hidden = self._matrix(known)

    def lists(
        self, users: Sequence[str], k: int, *, unseen: pl.DataFrame | None = None, only: np.ndarray | None = None
    ) -> Int64[np.ndarray, "users k"]:
        """The best items of each user, by their numbers; -1 where a list is shorter.

        The pairs of `unseen` are not left out; `only` says of each item whether it may be in a list.
        """
        bundle, hidden, scorer = self.bundle, self._hidden, self.bundle.scorer
        if unseen is not None:
            hidden = hidden > self._matrix(unseen)
            scorer = self._scorer_without(unseen)
        may = self.code_of_row >= 0 if only is None else (self.code_of_row >= 0) & only[self.code_of_row]
        scorer = restrict(scorer, None if may.all() else torch.from_numpy(may))
        top = top_k(scorer, bundle.users.rows(users), k, exclude=hidden).items
        return np.where(top < 0, -1, self.code_of_row[top])

    def _scorer_without(self, unseen: pl.DataFrame) -> Scorer:
        """The scorer; one of sequences reads histories without these pairs."""
        bundle, scorer = self.bundle, self.bundle.scorer
        if not isinstance(scorer, SequenceScorer):
            return scorer
        log, hidden = bundle.seen, self._matrix(unseen).tocoo()
        pairs = hidden.row.astype(np.int64) * hidden.shape[1] + hidden.col
        kept = ~np.isin(log.pairs(hidden.shape[1]), pairs)
        return scorer.of_sequences(sequences_of([log.take(kept)], len(bundle.users)))

    def _matrix(self, pairs: pl.DataFrame) -> Any:
        """Pairs of user and item as a boolean matrix of the scorer's users and items, without unknown ones."""
        users = self.bundle.users
        rows = pl.DataFrame({"user": pl.Series(list(users), dtype=pl.String)}).with_row_index("row")
        found = pairs.join(rows, on="user", how="inner", maintain_order="left")
        items = self.row_of_code[found["item"].to_numpy()]
        log = Interactions(found["row"].to_numpy()[items >= 0].astype(np.int32), items[items >= 0].astype(np.int32))
        return interaction_matrix([log], n_users=len(users), n_items=len(self.code_of_row))


@dataclass(frozen=True)
class _Wanted:
    """Recent interactions by the numbers of their items, each pair once."""

    frame: pl.DataFrame  # user, item
    of_unknown_users: int
    of_unknown_items: int

    @classmethod
    def of(cls, recent: pl.DataFrame, pair: _Pair) -> _Wanted:
        """Those of a table whose user the later bundle knows, and whose item one of the two knows."""
        if missing := [name for name in ("user", "item") if name not in recent.columns]:
            raise ConfigError(f"recent interactions need the columns user and item; there is no {missing[0]}")
        ids = recent.select(pl.col("user", "item").cast(pl.String)).unique(maintain_order=True)
        after = pair.sides[1].bundle.users
        is_known = pl.Series([user in after for user in ids["user"]], dtype=pl.Boolean)
        codes = pl.Series([pair.code.get(item, -1) for item in ids["item"]], dtype=pl.Int64)
        frame = ids.with_columns(item=codes).filter(is_known & (codes >= 0))
        return cls(frame, int((~is_known).sum()), int((is_known & (codes < 0)).sum()))

    def by_user(self, among: set[str]) -> tuple[list[str], pl.DataFrame]:
        """The users with such interactions among these, and their interactions."""
        frame = self.frame.filter(pl.col("user").is_in(list(among)))
        return frame["user"].unique(maintain_order=True).to_list(), frame


def _recent_quality(pair: _Pair, wanted: _Wanted, k: int, metric: Metric) -> RecentQuality:
    before, after = pair.sides

    def values(side: _Side, users: Sequence[str], frame: pl.DataFrame, only: np.ndarray | None) -> np.ndarray:
        if not users:
            return np.empty(0)
        top = side.lists(users, k, unseen=frame, only=only)
        return _by_user(top, users, frame, metric, len(pair.items))

    users, frame = wanted.by_user(set(pair.users))
    old, new = (values(side, users, frame, None) for side in pair.sides)
    common_frame = frame.filter(pl.Series(pair.in_both[frame["item"].to_numpy()], dtype=pl.Boolean))
    common_users = common_frame["user"].unique(maintain_order=True).to_list()
    common = [values(side, common_users, common_frame, pair.in_both) for side in pair.sides]
    known = set(pair.users)
    new_users, new_frame = wanted.by_user({user for user in after.bundle.users if user not in known})
    of_new = values(after, new_users, new_frame, None)
    counts = before.bundle.seen.user_counts(len(before.bundle.users))[before.bundle.users.rows(users)]
    groups = user_slices(counts) if len(users) else {}
    return RecentQuality(
        f"{metric}@{k}",
        frame.height,
        Measured.of(old, new),
        Measured.of(*common),
        Measured.of(np.zeros_like(of_new), of_new),
        better=int((new > old).sum()),
        worse=int((new < old).sum()),
        by_activity={name: Measured.of(old[chosen], new[chosen]) for name, chosen in groups.items()},
        of_unknown_users=wanted.of_unknown_users,
        of_unknown_items=wanted.of_unknown_items,
    )


def _by_user(
    top: Int64[np.ndarray, "users k"], users: Sequence[str], frame: pl.DataFrame, metric: Metric, n_items: int
) -> Float64[np.ndarray, " users"]:
    """The metric of each user's list."""
    place = {user: row for row, user in enumerate(users)}
    rows = np.array([place[user] for user in frame["user"]], dtype=np.int64)
    wanted = rows * n_items + frame["item"].to_numpy()
    listed = np.arange(len(users))[:, None] * n_items + top
    hits = np.isin(listed, wanted) & (top >= 0)
    k = top.shape[1]
    return measure(hits, np.bincount(rows, minlength=len(users)), [metric], [k])[f"{metric}@{k}"]


def _exposures(
    lists: Sequence[Int64[np.ndarray, "users k"]], pair: _Pair
) -> tuple[tuple[Exposure, ...], tuple[Exposure, ...]]:
    """The items whose share of the lists rises most, and those whose share falls most."""
    before, after = (np.bincount(top[top >= 0], minlength=len(pair.items)) / len(top) for top in lists)
    change = after - before
    order = np.argsort(-change, kind="stable")

    def exposure(code: int) -> Exposure:
        item = pair.items[code]
        bundle = pair.sides[1 if pair.sides[1].has[code] else 0].bundle
        return Exposure(item, bundle.title(item), float(before[code]), float(after[code]))

    gaining = [exposure(code) for code in order[:_SHOWN].tolist() if change[code] > 0]
    losing = [exposure(code) for code in order[::-1][:_SHOWN].tolist() if change[code] < 0]
    return tuple(gaining), tuple(losing)


def _presence(before: Sequence[str], after: Sequence[str]) -> Presence:
    first, second = set(before), set(after)
    return Presence(len(first & second), len(first - second), len(second - first))
