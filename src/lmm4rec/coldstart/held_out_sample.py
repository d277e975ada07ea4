"""A sample of a model's items, a fifth of them held out, on which maps from content to vectors are compared."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lmm4rec.coldstart.content_space import ContentSpace, nearest_only
from lmm4rec.core.types import Features, Scorer
from lmm4rec.data.interactions import Interactions

_MOST_ITEMS, _MOST_USERS, _MOST_HELD = 6000, 4000, 1000  # sampled where there are more: seconds, not minutes
_K = 20


class HeldOutSample(NamedTuple):
    """Items with interactions, and users, sampled from the training part; a fifth of the items is held out."""

    items: Int64[np.ndarray, " sample"]
    held: Bool[np.ndarray, " sample"]
    features: Features  # of the items
    interactions: sp.csr_array  # [all users, items]
    users: Int64[np.ndarray, " chosen"]

    @property
    def truth(self) -> Bool[Tensor, "chosen held"]:
        """Whether each chosen user interacted with each held-out item."""
        return self.history(self.held) > 0

    def history(self, which: Bool[np.ndarray, " sample"]) -> Float[Tensor, "chosen some"]:
        """The interactions of the chosen users with some of the items, as a dense matrix."""
        return torch.from_numpy(self.interactions[self.users][:, np.flatnonzero(which)].toarray())

    def features_of(self, which: Bool[np.ndarray, " sample"]) -> Features:
        """The features of some of the items."""
        return {modality: x[torch.from_numpy(which)] for modality, x in self.features.items()}


def draw_sample(features: Features, train: Interactions, scorer: Scorer) -> HeldOutSample:
    """The sample, of items with content and interactions; always the same."""
    rng = np.random.default_rng(0)
    has = np.zeros(scorer.n_items, dtype=bool)
    for x in features.values():
        has |= (x != 0).any(1).numpy()
    warm = np.flatnonzero((train.item_counts(scorer.n_items) > 0) & has)
    items = np.sort(rng.choice(warm, min(len(warm), _MOST_ITEMS), replace=False))
    held = np.zeros(len(items), dtype=bool)
    held[rng.permutation(len(items))[: min(len(items) // 5, _MOST_HELD)]] = True
    entries = (np.ones(len(train), np.float32), (train.users, train.items))
    interactions = sp.csr_array(entries, shape=(scorer.n_users, scorer.n_items))[:, items]
    interactions.sum_duplicates()
    interactions.data[:] = 1.0
    able = np.flatnonzero(np.diff(interactions[:, np.flatnonzero(held)].indptr))
    users = np.sort(rng.choice(able, min(len(able), _MOST_USERS), replace=False))
    return HeldOutSample(items, held, {m: x[items].float() for m, x in features.items()}, interactions, users)


def cutoff(n_held: int) -> int:
    """The length of a list of held-out items."""
    return max(1, min(_K, n_held // 2))


def recall(scores: Float[Tensor, "chosen held"], truth: Bool[Tensor, "chosen held"]) -> float:
    """The mean over users of the share of a user's held-out items that is in the user's list of held-out items."""
    top = scores.topk(cutoff(scores.shape[1]), dim=1).indices
    return float((truth.gather(1, top).sum(1) / truth.sum(1)).mean())


def neighbor_scores(sample: HeldOutSample, content: ContentSpace, k: int) -> Float[Tensor, "chosen held"]:
    """The scores of the held-out items by their similarity to the user's items among their `k` nearest others."""
    similarity = content.similarity(sample.features_of(sample.held), sample.features_of(~sample.held))
    return sample.history(~sample.held) @ nearest_only(similarity, k).T


def quality(sample: HeldOutSample, content: ContentSpace, reached: float) -> dict[str, float]:
    """Recall on the held-out items, ranked among themselves, beside that of content neighbors and of chance."""
    n_held = int(sample.held.sum())
    k = cutoff(n_held)
    return {
        "held-out items": float(n_held),
        f"recall@{k}": reached,
        f"recall@{k} of content neighbors": recall(neighbor_scores(sample, content, 50), sample.truth),
        f"recall@{k} of chance": k / n_held,
    }
