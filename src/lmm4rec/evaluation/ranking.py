"""Exact full ranking of all items for each user, in blocks within a memory budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import ConfigError, DataError, LMM4RecError
from lmm4rec.core.matrices import highest
from lmm4rec.core.types import Embeddings, PositiveInt, Scorer
from lmm4rec.data.interactions import Interactions

_BYTES_PER_SCORE = 24  # a float32 score, its masked copy, and the memory of breaking ties in every row
# a block that fits into the CPU's cache and below the size up to which glibc reuses memory
_USERS_PER_BLOCK, _SCORES_PER_BLOCK = 512, 2**23


class RankingError(LMM4RecError):
    """Scores that cannot be put in order."""


class Ranking(NamedTuple):
    """The best items of each user, best first; -1 with score -inf pads the lists that ran out of candidates."""

    items: Int64[np.ndarray, "users k"]
    scores: Float[np.ndarray, "users k"]


@dataclass(frozen=True)
class RestrictedScorer:
    """A scorer that never recommends some of the items."""

    scorer: Scorer
    penalty: Float[Tensor, " items"]  # 0, or minus infinity for an item that is never recommended

    @property
    def n_users(self) -> int:
        """Users of the scorer."""
        return self.scorer.n_users

    @property
    def n_items(self) -> int:
        """Items of the scorer, all of them."""
        return self.scorer.n_items

    def scores(self, users: Int[Tensor, " batch"]) -> Float[Tensor, "batch items"]:
        """The scorer's scores plus the penalty."""
        scores = self.scorer.scores(users)
        return scores + self.penalty.to(scores.device)


def restrict(scorer: Scorer, chosen: Bool[Tensor, " items"] | None) -> Scorer:
    """The scorer restricted to the `chosen` rows (None: all)."""
    if chosen is None:
        return scorer
    return RestrictedScorer(scorer, torch.zeros(len(chosen)).masked_fill(~chosen, -torch.inf))


def interaction_matrix(logs: Sequence[Interactions], *, n_users: int, n_items: int) -> sp.csr_array:
    """The interactions of all logs as a boolean matrix [users, items] with sorted rows and no duplicates.

    Raises:
        DataError: a log names a user or an item outside the matrix.
    """
    users = np.concatenate([np.empty(0, np.int32), *(log.users for log in logs)])
    items = np.concatenate([np.empty(0, np.int32), *(log.items for log in logs)])
    _check_rows(users, n_users, "user")
    _check_rows(items, n_items, "item")
    matrix = sp.csr_array((np.ones(len(users), dtype=bool), (users, items)), shape=(n_users, n_items))
    matrix.sum_duplicates()
    return matrix


@torch.no_grad()
def top_k(
    scorer: Scorer,
    users: Int[np.ndarray, " users"] | Int[Tensor, " users"],
    k: int,
    *,
    exclude: Sequence[Interactions] | sp.csr_array = (),
    memory_mb: PositiveInt = 256,
) -> Ranking:
    """The exact `k` best items of each of the given user rows.

    Ties: equal scores are ordered by ascending item row, also where the tie straddles rank `k`. A score of -inf means
    "never": such an item is left out like an excluded one. Where fewer than `k` candidates remain, -1 pads.

    `exclude` holds the items that are left out for each user: logs, or their `interaction_matrix` where one serves many
    calls. `memory_mb` bounds the block of scores and all that is derived from it (at least one user is scored at a
    time); the scorer's own memory is extra. Everything is computed on the device of the scores.

    Raises:
        ConfigError: `k` is below 1.
        DataError: a user or an excluded interaction lies outside the scorer's users and items.
        RankingError: a candidate's score is NaN.
    """
    if k < 1:
        raise ConfigError(f"k must be at least 1, got {k}")
    rows = (users.cpu().numpy() if isinstance(users, Tensor) else users).astype(np.int64)
    _check_rows(rows, scorer.n_users, "user")
    hidden = _hidden(exclude, scorer)
    size = users_per_block(scorer.n_items, memory_mb=memory_mb)
    blocks = [_rank_block(scorer, rows[start : start + size], k, hidden) for start in range(0, len(rows), size)]
    if not blocks:
        return Ranking(np.empty((0, k), np.int64), np.empty((0, k), np.float32))
    items, scores = zip(*blocks, strict=True)
    return Ranking(np.concatenate(items), np.concatenate(scores))


def users_per_block(n_items: int, *, memory_mb: PositiveInt) -> int:
    """The number of users in a block that stays within the memory and the CPU's cache."""
    scores = min(memory_mb * 2**20 // _BYTES_PER_SCORE, _SCORES_PER_BLOCK)
    return max(1, min(scores // max(n_items, 1), _USERS_PER_BLOCK))


def _hidden(exclude: Sequence[Interactions] | sp.csr_array, scorer: Scorer) -> sp.csr_array | None:
    """The exclusions as a matrix; None where there are none."""
    n_users, n_items = scorer.n_users, scorer.n_items
    if not sp.issparse(exclude):
        if not len(exclude):
            return None
        return interaction_matrix(exclude, n_users=n_users, n_items=n_items)
    matrix: sp.csr_array = exclude
    if matrix.shape != (n_users, n_items):
        raise DataError(f"the exclusions are {matrix.shape} users and items, but the scorer knows {n_users, n_items}")
    return matrix


def _rank_block(scorer: Scorer, users: Int64[np.ndarray, " batch"], k: int, hidden: sp.csr_array | None) -> Ranking:
    scores = scorer.scores(torch.from_numpy(users))
    forbidden = None if hidden is None else hidden[users]
    if forbidden is not None and forbidden.nnz:
        rows = np.repeat(np.arange(len(users)), np.diff(forbidden.indptr))
        places = tuple(torch.from_numpy(x).long().to(scores.device) for x in (rows, forbidden.indices))
        if not isinstance(scorer, Embeddings):  # whose scores are new; another scorer's tensor may be its own
            scores = scores.clone()
        scores.index_put_(places, scores.new_tensor(-torch.inf))
    values, items = _best(scores, users, min(k, scores.shape[1]))
    items = items.masked_fill(values == -torch.inf, -1)
    missing = (0, k - items.shape[1])
    values = F.pad(values if values.dtype == torch.float64 else values.float(), missing, value=-torch.inf)
    return Ranking(F.pad(items, missing, value=-1).cpu().numpy(), values.cpu().numpy())


def _best(
    scores: Float[Tensor, "batch items"], users: Int64[np.ndarray, " batch"], k: int
) -> tuple[Float[Tensor, "batch k"], Int64[Tensor, "batch k"]]:
    """The `k` highest scores of each row and their columns, by (score descending, column ascending)."""
    values, items = highest(scores, min(k + 1, scores.shape[1]))  # one more, to see whether rank k is tied
    _refuse_nan(values, users)
    tied = (values[:, 1:] == values[:, :-1]).any(dim=1)
    values, items = values[:, :k], items[:, :k]
    if tied.any():
        values[tied], items[tied] = _break_ties(scores[tied], values[tied, -1:], k)
    return values, items


def _refuse_nan(best: Float[Tensor, "batch _k"], users: Int64[np.ndarray, " batch"]) -> None:
    """Raises RankingError for NaN among the selected scores, where NaN comes first if there is any."""
    nan = best.isnan().any(dim=1).cpu().numpy()
    if nan.any():
        raise RankingError(
            f"user row {users[nan.argmax()]} has a score that is NaN, and so have {nan.sum() - 1} more of the "
            f"{len(users)} users ranked with it; look for a diverged training or NaN in the features"
        )


def _break_ties(
    scores: Float[Tensor, "batch items"], lowest: Float[Tensor, "batch 1"], k: int
) -> tuple[Float[Tensor, "batch k"], Int64[Tensor, "batch k"]]:
    """The exact order of rows whose k-th highest score is `lowest`: of items with that score the first ones count."""
    above, level = scores > lowest, scores == lowest
    room = k - above.sum(dim=1, keepdim=True)
    chosen = above | (level & (level.cumsum(dim=1, dtype=torch.int32) <= room))
    items = chosen.nonzero()[:, 1].view(-1, k)  # columns ascend, and the stable sort keeps that among equals
    values, order = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
    return values, items.gather(1, order)


def _check_rows(rows: Int[np.ndarray, " n"], size: int, kind: str) -> None:
    outside = rows[(rows < 0) | (rows >= size)]
    if len(outside):
        raise DataError(
            f"{kind} row {outside[0]} is outside the {size:,} {kind}s that the scorer knows; "
            "take scorer and interactions from the same data set"
        )
