"""Measures of all lists together beyond accuracy: exposure of items, novelty, diversity and serendipity.

The lists are `top` [users, k], item rows with the best first, where -1 pads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.evaluation.slices import grouped

_NUMBERS = 2**24  # of content, gathered at a time: 64 MiB


def exposure(top: Int64[np.ndarray, "users k"], n_items: int) -> Int64[np.ndarray, " items"]:
    """The number of lists that contain each item."""
    return np.bincount(top[top >= 0], minlength=n_items).astype(np.int64)


def coverage(exposures: Int64[np.ndarray, " items"]) -> float:
    """The share of the catalog that is in at least one list, in [0, 1].

    Catalog coverage of Ge, Delgado-Battenfeld and Jannach 2010, doi 10.1145/1864708.1864761.
    """
    return np.count_nonzero(exposures) / len(exposures)


def gini(exposures: Int64[np.ndarray, " items"]) -> float:
    """The Gini coefficient of exposure over all items: 0 where all are equal, 1 - 1/items where one item has all.

    With the exposures e sorted ascending and n items: G = sum_i (2 i - n - 1) e_i / (n sum_i e_i), i from 1. It is 0
    where nothing is exposed.
    """
    n, total = len(exposures), int(exposures.sum())
    if total == 0:
        return 0.0
    weights = 2 * np.arange(1, n + 1) - n - 1
    return float(weights @ np.sort(exposures)) / (n * total)


def novelty(exposures: Int64[np.ndarray, " items"], counts: Int64[np.ndarray, " items"]) -> float:
    """The mean over all recommended entries of -log2(popularity share), in bits; higher is less popular.

    An item's share is its part of all training interactions `counts`; an item without any counts as having one, since
    its information would be infinite. Self-information as in Vargas and Castells 2011, doi 10.1145/2043932.2043955.
    It is 0 where nothing is exposed.
    """
    total = max(int(counts.sum()), 1)
    bits = np.log2(total) - np.log2(np.maximum(counts, 1))
    return float(exposures @ bits) / max(int(exposures.sum()), 1)


def diversity(top: Int64[np.ndarray, "users k"], content: Float[Tensor, "items width"]) -> float:
    """The mean over lists of the mean of 1 - cosine over pairs of their items, in [0, 2].

    Intra-list diversity of Ziegler et al. 2005, doi 10.1145/1060745.1060754, with the content of the items as vectors.
    Items without content (zeros) are left out; so are lists with fewer than two others. It is 0 where no list is left.
    """
    lists, unit = torch.from_numpy(top), F.normalize(content.float())
    has_content = content.any(1)
    total, count = 0.0, 0
    for rows in torch.split(lists, max(1, _NUMBERS // max(top.shape[1] * content.shape[1], 1))):
        there = (rows >= 0) & has_content[rows.clamp(min=0)]
        n = there.sum(1).double()
        sums = (unit[rows.clamp(min=0)] * there[..., None]).sum(1).double()
        cosines = (sums.square().sum(1) - n) / (n * (n - 1)).clamp(min=1)
        total, count = total + float((1 - cosines)[n > 1].sum()), count + int((n > 1).sum())
    return total / max(count, 1)


def popularity_places(
    top: Int64[np.ndarray, "users k"], hidden: sp.csr_array, counts: Int64[np.ndarray, " items"]
) -> Int64[np.ndarray, "users k"]:
    """The place from 0 of each listed item in the user's list by popularity alone, which lacks the `hidden` items.

    It is the item's rank in the catalog less the number of hidden items before it; equal counts stand by row.
    """
    n_items = len(counts)
    rank = np.empty(n_items, dtype=np.int64)
    rank[np.argsort(-counts, kind="stable")] = np.arange(n_items)
    users = np.arange(len(top))[:, None] * n_items
    keys = np.sort(np.repeat(users[:, 0], np.diff(hidden.indptr)) + rank[hidden.indices])  # by user, then by rank
    before = np.searchsorted(keys, users + rank[top]) - hidden.indptr[:-1, None]
    return rank[top] - before


def serendipity(hits: Bool[np.ndarray, "users k"], places: Int64[np.ndarray, "users k"]) -> float:
    """The mean over lists of the share that is relevant and not in the user's list by popularity alone; denominator: k.

    `places` are those of `popularity_places`. Unexpected and useful recommendations of Ge, Delgado-Battenfeld and
    Jannach 2010, doi 10.1145/1864708.1864761, with the most popular items as the expected ones.
    """
    k = hits.shape[1]
    return float((hits & (places >= k)).sum(axis=1).mean()) / k


def exposure_by_value(
    exposures: Int64[np.ndarray, " items"], values: Sequence[str], counts: Int64[np.ndarray, " items"], most: int
) -> dict[str, dict[str, float]]:
    """The share of each value of a catalog field in the lists, in the catalog and in the training interactions.

    Of the values with the most interactions; the `most` first ones.
    """
    names, group, order = grouped(values, counts)
    shares = {
        name: np.bincount(group, weights=weights, minlength=len(names)) / max(weights.sum(), 1)
        for name, weights in (("lists", exposures), ("catalog", np.ones_like(counts)), ("interactions", counts))
    }
    return {names[i]: {name: float(share[i]) for name, share in shares.items()} for i in order[:most].tolist()}
