"""The evaluation of a scorer on held-out interactions by full ranking, and the interactions left out of rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, DataError, did_you_mean
from lmm4rec.core.types import PositiveInt, Scorer
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.splits import Split
from lmm4rec.evaluation.beyond_accuracy import (
    coverage,
    diversity,
    exposure,
    exposure_by_value,
    gini,
    novelty,
    popularity_places,
    serendipity,
)
from lmm4rec.evaluation.metrics import METRICS, Metric, Values, measure
from lmm4rec.evaluation.ranking import interaction_matrix, restrict, top_k
from lmm4rec.evaluation.slices import field_slices, item_slices, user_slices

_MOST_VALUES = 10  # of a field, that are reported
_KS = [5, 10, 20, 50]
_PADDED = 1000  # lists are padded to this k; a larger one above the catalog is the catalog
_ALL = list(METRICS)
_NONE: list[str] = []


@dataclass(frozen=True)
class ItemDescriptions:
    """What is known of items beside interactions: their content as vectors, and fields by whose values to report."""

    content: Float[Tensor, "items width"] | None = None  # zeros where an item has none
    fields: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """The metrics of a scorer under full ranking, by user and on average; nothing is rounded.

    Only users with a relevant item are ranked and averaged. A held-out item that is also excluded for its user can
    never be ranked, so it does not count as relevant.
    """

    users: Int64[np.ndarray, " users"]  # their rows, ascending
    per_user: Mapping[str, Float64[np.ndarray, " users"]]  # "recall@20", ... in the order of `users`
    top: Int64[np.ndarray, "users k"]  # item rows, best first, at the largest k; -1 where a list is shorter
    slices: Mapping[str, Mapping[str, float]]  # "cold", "brand: Acme" -> its "items", its "users", and the metrics
    beyond: Mapping[str, float]  # "coverage@20", "gini@20", "novelty@20", ...
    exposure: Mapping[str, Mapping[str, Mapping[str, float]]]  # field -> value -> share of "lists", "catalog", ...
    users_without_truth: int  # users without a relevant item, who are part of no mean
    truth_excluded: int  # held-out interactions that are not counted, being excluded too

    @property
    def mean(self) -> dict[str, float]:
        """The mean of each metric over `users`."""
        return _means(self.per_user)

    @property
    def standard_error(self) -> dict[str, float]:
        """The standard error of each mean over `users`; without the metrics of fewer than two users."""
        count = len(self.users)
        return {name: float(x.std(ddof=1) / np.sqrt(count)) for name, x in self.per_user.items() if count > 1}

    def to_frame(self, vocabulary: Vocabulary) -> pl.DataFrame:
        """One row a user: the external id in column "user", then a column for each metric."""
        ids = [vocabulary[row] for row in self.users.tolist()]
        return pl.DataFrame({"user": pl.Series(ids, dtype=pl.String), **self.per_user})


class Evaluator:
    """Full ranking of all items for each user, and its metrics."""

    def __init__(
        self,
        *,
        ks: Annotated[list[PositiveInt], Doc("Cut-offs of the metrics.")] = _KS,
        metrics: Annotated[list[Metric], Doc("Ranking metrics.")] = _ALL,
        memory_mb: Annotated[PositiveInt, Doc("MiB for the scores of a block of users.")] = 256,
        candidates: Annotated[
            Literal["all", "cold"], Doc("Items that are ranked; cold: those without a training interaction.")
        ] = "all",
        slice_by: Annotated[
            list[str], Doc('Catalog fields by whose values to report, too, such as ["brand"].')
        ] = _NONE,
    ) -> None:
        """`ks` are list lengths, `metrics` names of `metrics.METRICS`; `memory_mb` bounds each block of scores.

        `candidates` are the items that compete, and that count as relevant: "all", or "cold", those without a
        training interaction. Among all items a cold one ranks behind the warm ones, however good its rank among the
        cold ones.

        Raises:
            ConfigError: a metric is unknown, a k is below 1, or either list is empty or repeats itself.
        """
        self.ks, self.metrics, self.memory_mb = tuple(ks), tuple(metrics), memory_mb
        self.candidates, self.slice_by = candidates, tuple(slice_by)
        for key, values in (("ks", self.ks), ("metrics", self.metrics)):
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"{key} needs at least one value and none twice, got {list(values)}")
        if min(self.ks) < 1:
            raise ConfigError(f"every k of ks must be at least 1, got {list(self.ks)}")
        for name in self.metrics:
            if name not in METRICS:
                known = ", ".join(METRICS)
                raise ConfigError(f"unknown metric '{name}'.{did_you_mean(name, METRICS)} There are: {known}")

    def evaluate(
        self,
        scorer: Scorer,
        truth: Interactions,
        exclude: Sequence[Interactions] = (),
        *,
        train: Interactions | None = None,
        items: ItemDescriptions | None = None,
        details: bool = True,
    ) -> Report:
        """The report on `truth`; each user's ranking leaves out the items in `exclude`.

        `train` gives the popularity of items; without it there are no slices, no novelty and no serendipity. The
        metrics of a slice of items count only these as relevant while all candidates compete, and average over the
        users who have such an item. `items` adds slices and exposure by their fields, and diversity by their content.
        Without `details` the report has the metrics alone: no slices, no exposure, and nothing beyond accuracy.

        Raises:
            ConfigError: the candidates are cold items, and there is no `train` to say which these are.
            DataError: no user has a relevant item, or a row lies outside the scorer's users and items.
            RankingError: a score is NaN.
        """
        size = {"n_users": scorer.n_users, "n_items": scorer.n_items}
        counts = None if train is None else train.item_counts(scorer.n_items)
        if self.candidates == "cold":
            if counts is None:
                raise ConfigError('candidates = "cold" needs the training part, which says which items are cold')
            cold = counts == 0
            scorer, truth = restrict(scorer, torch.from_numpy(cold)), truth.take(cold[truth.items])
        held_out, hidden = interaction_matrix([truth], **size), interaction_matrix(exclude, **size)
        relevant = held_out > hidden
        users = np.flatnonzero(np.diff(relevant.indptr)).astype(np.int64)
        if not len(users):
            raise DataError(
                f"no user has a relevant item: {len(truth)} held-out interactions, "
                f"{held_out.nnz} of them distinct and all of those excluded from the ranking"
            )
        relevant = relevant[users]
        top = top_k(
            scorer, users, min(max(self.ks), max(scorer.n_items, _PADDED)), exclude=hidden, memory_mb=self.memory_mb
        ).items
        hits = _hits(top, relevant)
        counted = None if not details or train is None or counts is None else _Training(train, counts)
        lists = _Lists(top, hits, relevant, users, scorer.n_items, items or ItemDescriptions())
        return Report(
            users=users,
            per_user=measure(hits, _per_row(relevant), self.metrics, self.ks),
            top=top,
            slices={} if counted is None else self._slices(lists, counted, scorer.n_users),
            beyond=self._beyond(lists, counted, hidden) if details else {},
            exposure={} if counted is None else self._exposure(lists, counted.item_counts),
            users_without_truth=scorer.n_users - len(users),
            truth_excluded=held_out.nnz - relevant.nnz,
        )

    def _slices(self, lists: _Lists, training: _Training, n_users: int) -> dict[str, dict[str, float]]:
        members = item_slices(training.item_counts)
        for name, values in self._fields(lists).items():
            members |= field_slices(name, values, training.item_counts, _MOST_VALUES)
        slices = {}
        for name, items in members.items():
            per_user = _per_row(lists.relevant, items)
            chosen = per_user > 0
            hits = lists.hits[chosen] & items[lists.top[chosen]]
            sizes = {"items": float(items.sum()), "users": float(chosen.sum())}
            slices[name] = sizes | _means(measure(hits, per_user[chosen], self.metrics, self.ks))
        per_user = _per_row(lists.relevant)
        for name, active in user_slices(training.interactions.user_counts(n_users)[lists.users]).items():
            of_users = measure(lists.hits[active], per_user[active], self.metrics, self.ks)
            slices[name] = {"users": float(active.sum()), **_means(of_users)}
        return slices

    def _beyond(self, lists: _Lists, training: _Training | None, hidden: sp.csr_array) -> dict[str, float]:
        exposures = {k: exposure(lists.top[:, :k], lists.n_items) for k in self.ks}
        values = {f"coverage@{k}": coverage(exposed) for k, exposed in exposures.items()}
        values |= {f"gini@{k}": gini(exposed) for k, exposed in exposures.items()}
        if lists.items.content is not None:
            values |= {f"diversity@{k}": diversity(lists.top[:, :k], lists.items.content) for k in self.ks if k > 1}
        if training is None:
            return values
        values |= {f"novelty@{k}": novelty(exposed, training.item_counts) for k, exposed in exposures.items()}
        if self.candidates == "all":
            places = popularity_places(lists.top, hidden[lists.users], training.item_counts)
            values |= {f"serendipity@{k}": serendipity(lists.hits[:, :k], places[:, :k]) for k in self.ks}
        return values

    def _exposure(self, lists: _Lists, counts: Int64[np.ndarray, " items"]) -> dict[str, dict[str, dict[str, float]]]:
        """The exposure of each field's values, in lists of the largest k."""
        exposed = exposure(lists.top, lists.n_items)
        return {
            name: exposure_by_value(exposed, values, counts, _MOST_VALUES)
            for name, values in self._fields(lists).items()
        }

    def _fields(self, lists: _Lists) -> dict[str, Sequence[str]]:
        """The values of the fields to slice by."""
        return {name: lists.items.fields[name] for name in self.slice_by if name in lists.items.fields}


@dataclass(frozen=True)
class _Lists:
    """The lists of the users who are measured, and what is relevant to them."""

    top: Int64[np.ndarray, "users k"]
    hits: Bool[np.ndarray, "users k"]
    relevant: sp.csr_array
    users: Int64[np.ndarray, " users"]  # their rows
    n_items: int
    items: ItemDescriptions


@dataclass(frozen=True)
class _Training:
    """The training part, and its interactions counted by item."""

    interactions: Interactions
    item_counts: Int64[np.ndarray, " items"]


def _hits(top: Int64[np.ndarray, "users k"], relevant: sp.csr_array) -> Bool[np.ndarray, "users k"]:
    """Whether each entry of each list is relevant; (user, item) pairs are compared as single numbers."""
    n_users, n_items = relevant.shape
    rows = np.arange(n_users, dtype=np.int64)
    wanted = np.repeat(rows, np.diff(relevant.indptr)) * n_items + relevant.indices
    listed = rows[:, None] * n_items + top
    place = np.minimum(np.searchsorted(wanted, listed), len(wanted) - 1)
    return (wanted[place] == listed) & (top >= 0)


def _per_row(relevant: sp.csr_array, members: Bool[np.ndarray, " items"] | None = None) -> Int64[np.ndarray, " users"]:
    """The number of items (of those in `members`) in each row."""
    rows = np.repeat(np.arange(relevant.shape[0]), np.diff(relevant.indptr))
    chosen = rows if members is None else rows[members[relevant.indices]]
    return np.bincount(chosen, minlength=relevant.shape[0]).astype(np.int64)


def _means(per_user: Mapping[str, Values]) -> dict[str, float]:
    """The mean of each column; empty where there are no users."""
    return {name: float(values.mean()) for name, values in per_user.items() if len(values)}


def masked(
    split: Split,
    part: Literal["valid", "test"],
    *,
    protocol: Annotated[
        Literal["strict", "mmrec"], Doc("Interactions left out of rankings; mmrec: training alone, in the test too.")
    ] = "strict",
) -> list[Interactions]:
    """The interactions whose items are left out of a user's ranking when `part` is measured.

    "strict": all that is known at that point, so training and validation positives when testing. "mmrec": training
    positives only, as the public MMRec toolbox does; validation positives then compete with the test items.
    """
    return [split.train, split.valid] if part == "test" and protocol == "strict" else [split.train]
