"""Ranking metrics by user, as functions of the hits.

A metric takes `hits` [users, k], True where the item at that rank (best first) is relevant to the user, and `relevant`
[users], the number of relevant items of the user; k is the width of `hits`. It returns one value per user
in [0, 1], which is 0 where nothing is relevant. A list shorter than k counts as padded with misses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float64, Int64

Hits: TypeAlias = Bool[np.ndarray, "users k"]
Relevant: TypeAlias = Int64[np.ndarray, " users"]
Values: TypeAlias = Float64[np.ndarray, " users"]


def recall(hits: Hits, relevant: Relevant) -> Values:
    """The share of the relevant items that are in the list; denominator: all relevant items, also if more than k."""
    return _count(hits) / np.maximum(relevant, 1)


def precision(hits: Hits, relevant: Relevant) -> Values:
    """The share of the list that is relevant; denominator: k, also where fewer items are relevant."""
    return _count(hits) / hits.shape[1]


def hit_rate(hits: Hits, relevant: Relevant) -> Values:
    """1 where the list has a relevant item, else 0; no denominator."""
    return np.where(hits.any(axis=1), 1.0, 0.0)


def reciprocal_rank(hits: Hits, relevant: Relevant) -> Values:
    """1 / the rank of the first hit, 0 where there is none; its mean over users is MRR. No denominator."""
    first = hits.argmax(axis=1)
    return np.where(hits.any(axis=1), 1.0 / (first + 1.0), 0.0)


def average_precision(hits: Hits, relevant: Relevant) -> Values:
    """The precisions at the ranks of the hits, summed; denominator: min(k, relevant items), so that 1 is possible.

    Its mean over users is MAP. (trec_eval divides by all relevant items instead.)
    """
    at_rank = hits.cumsum(axis=1) / _ranks(hits)
    return (at_rank * hits).sum(axis=1) / np.clip(relevant, 1, hits.shape[1])


def ndcg(hits: Hits, relevant: Relevant) -> Values:
    """The discounted gain, 1 / log2(rank + 1) for each hit; denominator: that of an ideal list.

    The ideal list has hits at its first min(k, relevant items) ranks (Järvelin and Kekäläinen 2002,
    doi 10.1145/582415.582418, with binary relevance).
    """
    discounts = 1.0 / np.log2(_ranks(hits) + 1.0)
    ideal = np.cumsum(discounts)[np.clip(relevant, 1, hits.shape[1]) - 1]
    return (hits @ discounts) / ideal


def _count(hits: Hits) -> Int64[np.ndarray, " users"]:
    return np.count_nonzero(hits, axis=1).astype(np.int64)


def _ranks(hits: Hits) -> Float64[np.ndarray, " k"]:
    return np.arange(1.0, hits.shape[1] + 1.0)


Metric: TypeAlias = Literal["recall", "ndcg", "precision", "map", "mrr", "hit_rate"]

METRICS: Mapping[Metric, Callable[[Hits, Relevant], Values]] = {
    "recall": recall,
    "ndcg": ndcg,
    "precision": precision,
    "map": average_precision,
    "mrr": reciprocal_rank,
    "hit_rate": hit_rate,
}
"""All metrics by their names in conf files and reports."""


def measure(hits: Hits, relevant: Relevant, metrics: Sequence[Metric], ks: Sequence[int]) -> dict[str, Values]:
    """Every metric at every k, named like "recall@20"; `hits` is as wide as the largest k, or as the catalog."""
    values = {f"{name}@{k}": METRICS[name](hits[:, :k], relevant) for name in metrics for k in ks}
    for k in ks:
        if k > hits.shape[1] and "precision" in metrics:
            values[f"precision@{k}"] *= hits.shape[1] / k  # its denominator is k, also above the catalog
    return values
