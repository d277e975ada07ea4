"""The users of a request: what scores the items for them, and the items that each of them must not get."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lmm4rec.coldstart.user_fold_in import fold_in_neighbors
from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.sequences import Sequences, SequenceScorer
from lmm4rec.core.types import Embeddings, Neighbors, Scorer
from lmm4rec.evaluation.ranking import Ranking, restrict, top_k, users_per_block
from lmm4rec.nn.csr import csr_matrix
from lmm4rec.serving.answers import HistoryItem
from lmm4rec.serving.bundle_state import BundleState
from lmm4rec.serving.posted_interactions import PostedInteraction, is_negative
from lmm4rec.serving.scorer_operations import ComputedScores
from lmm4rec.serving.user_histories import columns_of

_NONE = np.empty(0, np.int64)
_SCORES_MB = 256  # of a block of users
_FEW = 0.25  # up to this share of the items, the scores of the candidates are copied out
_SAMPLE = 10_000  # items whose scores stand for all, where an index does without most scores


@dataclass(frozen=True)
class AskedUsers:
    """The users of a request, as rows of a scorer of the state's items."""

    scorer: Scorer
    rows: Int64[np.ndarray, " users"]
    exclude: sp.csr_array | None  # [users of the scorer, items]

    def best(self, state: BundleState, k: int, candidates: Bool[Tensor, " rows"] | None) -> Ranking:
        """The best items of each user among the candidates (None: all); `k` is at most the catalog."""
        k, exclude = min(k, len(state.catalog)), self.exclude
        if state.index is not None and isinstance(self.scorer, Embeddings):
            excluded = [None if exclude is None else columns_of(exclude, row) for row in self.rows.tolist()]
            vectors = self.scorer.users[torch.from_numpy(self.rows)]
            return state.index.search(vectors, self.scorer.items, k, candidates, excluded)
        return top_k(restrict(self.scorer, candidates), self.rows, k, exclude=() if exclude is None else exclude)

    def scored_once(self, state: BundleState) -> Iterator[AskedUsers | ScoredUsers]:
        """The users in blocks whose scores are computed, for several rankings of the same users; as they are with an
        index, which does without most scores."""
        if state.index is not None and isinstance(self.scorer, Embeddings):
            yield self
            return
        size = users_per_block(self.scorer.n_items, memory_mb=_SCORES_MB)
        for start in range(0, len(self.rows), size):
            rows = self.rows[start : start + size]
            scores = self.scorer.scores(torch.from_numpy(rows)).clone()  # of another scorer than vectors, its own
            if self.exclude is not None:
                scores[self.exclude[rows].nonzero()] = -torch.inf
            yield ScoredUsers(scores)

    def alone(self, at: int) -> AskedUsers:
        """The user in a place of `rows`."""
        return replace(self, rows=self.rows[at : at + 1])

    def deviations(self, items: Int64[Tensor, " chosen"]) -> list[float]:
        """The standard deviation of each user's scores of these items, by an even sample of them.

        The scorer must have vectors.
        """
        assert isinstance(self.scorer, Embeddings)
        sample = items[:: max(1, -(-len(items) // _SAMPLE))]
        deviations, vectors = [], self.scorer.items[sample]
        for row in self.rows.tolist():
            hidden = _NONE if self.exclude is None else columns_of(self.exclude, row)
            shown = ~torch.isin(sample, torch.from_numpy(hidden))
            deviations.append(_deviation((vectors @ self.scorer.users[row])[shown]))
        return deviations


@dataclass(frozen=True)
class ScoredUsers:
    """Users with the scores of all items, which are minus infinity for those that a user must not get."""

    scores: Float[Tensor, "users items"]

    def best(self, state: BundleState, k: int, candidates: Bool[Tensor, " rows"] | None) -> Ranking:
        """The best items of each user among the candidates (None: all); `k` is at most the catalog."""
        scores, (users, n_items) = self.scores, self.scores.shape
        few = None
        if candidates is not None:
            few = candidates.nonzero()[:, 0] if int(candidates.sum()) < _FEW * n_items else None
            scores = scores.masked_fill(~candidates, -torch.inf) if few is None else scores[:, few]
        k = min(k, n_items)
        if few is not None and not len(few):
            return Ranking(np.full((users, k), -1), np.full((users, k), -np.inf, np.float32))
        best = top_k(ComputedScores(scores), np.arange(users), k)
        if few is None:
            return best
        return Ranking(np.where(best.items < 0, -1, few.numpy()[best.items]), best.scores)

    def alone(self, at: int) -> ScoredUsers:
        """The user in a row of the scores."""
        return ScoredUsers(self.scores[at : at + 1])

    def deviations(self, items: Int64[Tensor, " chosen"]) -> list[float]:
        """The standard deviation of each user's scores of these items, without those that the user must not get."""
        return [_deviation(row.index_select(0, items)) for row in self.scores]


def _deviation(scores: Float[Tensor, " items"]) -> float:
    finite = scores.isfinite()
    scores = scores if finite.all() else scores[finite]
    return float(scores.std(correction=0)) if len(scores) else 0.0


class UserHistory(NamedTuple):
    """The items of one user, as ascending rows, and those that the user wants in the order of time, the latest last."""

    row: int | None  # in the scorer; None for a user whom the model was not trained on
    items: Int64[np.ndarray, " items"]  # what the user wants: the positive interactions
    hidden: Int64[np.ndarray, " hidden"]  # these, and what the user does not want
    new_share: float  # of the items, those that the model was not trained on; 0: trained on exactly these items
    sequence: Int64[np.ndarray, " sequence"]


def user_history(state: BundleState, user: str, posted: Sequence[PostedInteraction]) -> UserHistory:
    """The history of a user: that of the training, and the posted interactions with items of the catalog.

    Raises:
        DataError: the user is unknown, and has no posted interaction either.
    """
    wanted, unwanted = _posted_rows(state, posted, negative=False), _posted_rows(state, posted, negative=True)
    users = state.histories.users
    if len(wanted) and user not in users:
        return UserHistory(None, wanted, np.union1d(wanted, unwanted), 1.0, _sequence(state, None, posted, unwanted))
    row = users.row(user)
    trained, hidden = state.histories.items_of(row), state.histories.excluded_for(row)
    items = np.setdiff1d(np.union1d(trained, wanted), unwanted)
    items = items if len(items) else trained  # a vector needs some item
    new_share = len(np.setxor1d(items, trained)) / max(1, len(np.union1d(items, trained)))
    sequence = _sequence(state, row, posted, np.setdiff1d(unwanted, items))
    return UserHistory(row, items, np.union1d(hidden, np.union1d(wanted, unwanted)), new_share, sequence)


def _sequence(
    state: BundleState, row: int | None, posted: Sequence[PostedInteraction], unwanted: Int64[np.ndarray, " unwanted"]
) -> Int64[np.ndarray, " sequence"]:
    """The items of the training and the posted ones in the order of time; one that was posted again counts then.

    Without times in the log, the posted ones are later than all others.
    """
    catalog, seen = state.catalog, state.histories.seen
    new = sorted(
        ((one.time, catalog.row(one.item)) for one in posted if not is_negative(one.kind) and catalog.has(one.item)),
        key=lambda pair: pair[0],
    )
    at = _NONE if row is None else state.histories.in_order(row)
    items = np.array([*seen.items[at].tolist(), *(item for _, item in new)], dtype=np.int64)
    times = [-np.inf] * len(at) if seen.timestamps is None else seen.timestamps[at].tolist()
    order = np.argsort([*times, *(time for time, _ in new)], kind="stable")
    is_old = np.arange(len(items)) < len(at)
    left_out = np.isin(items, unwanted) | (is_old & np.isin(items, items[len(at) :]))
    return items[order][~left_out[order]]


def _posted_rows(
    state: BundleState, posted: Sequence[PostedInteraction], *, negative: bool
) -> Int64[np.ndarray, " items"]:
    """The rows of the items with which there are interactions of one sign."""
    items = [one.item for one in posted if is_negative(one.kind) is negative and state.catalog.has(one.item)]
    return np.unique(state.catalog.rows(items))


def history_items(state: BundleState, user: str, posted: Sequence[PostedInteraction]) -> list[HistoryItem]:
    """The items of a user, the latest first where times are known; each posted one once.

    Raises:
        DataError: the user is unknown.
    """
    catalog, histories = state.catalog, state.histories
    row = user_history(state, user, posted).row
    added = [
        (catalog.row(one.item), int(one.time)) for one in posted if not is_negative(one.kind) and catalog.has(one.item)
    ]
    added.sort(key=lambda pair: -pair[1])
    at, times = _NONE if row is None else histories.entries_of(row), histories.seen.timestamps
    when = [None] * len(at) if times is None else times[at].tolist()
    new = {item for item, _ in added}
    trained = [pair for pair in zip(histories.seen.items[at].tolist(), when, strict=True) if pair[0] not in new]
    return [HistoryItem(catalog.id(item), catalog.title(item), time) for item, time in [*added, *trained]]


def asked_users(
    state: BundleState, ids: Sequence[str], posted: Mapping[str, Sequence[PostedInteraction]], *, exclude_seen: bool
) -> AskedUsers:
    """The users of these ids, with their posted interactions.

    Raises:
        DataError: a user is unknown.
    """
    if not any(posted.values()):
        exclude = state.histories.excluded(len(state.catalog)) if exclude_seen else None
        return AskedUsers(state.scorer, state.histories.users.rows(ids), exclude)
    histories = [user_history(state, id_, posted.get(id_, ())) for id_ in ids]
    exclude = _matrix([one.hidden for one in histories], len(state.catalog)) if exclude_seen else None
    return AskedUsers(_scorer(state, histories), np.arange(len(ids)), exclude)


def asked_history(state: BundleState, items: Int64[np.ndarray, " items"], exclude: Iterable[np.ndarray]) -> AskedUsers:
    """An unknown user with this history, the latest item last, who gets neither its items nor those of `exclude`."""
    history = UserHistory(None, np.unique(items), np.unique(np.concatenate([items, *exclude])), 1.0, items)
    hidden = _matrix([history.hidden], len(state.catalog))
    return AskedUsers(_scorer(state, [history]), np.zeros(1, np.int64), hidden)


def _scorer(state: BundleState, histories: Sequence[UserHistory]) -> Scorer:
    """The scorer of users with these histories, a row each.

    A vector is (1 - s) times the trained one plus s times that of the fold-in of all items, where s is the share of
    items that the model was not trained on (`benchmarks/feedback_recall.py` has other ways). A model of sequences reads
    the whole history anew.
    """
    scorer = state.scorer
    if isinstance(scorer, SequenceScorer):
        return scorer.of_sequences(Sequences.of_lists([one.sequence for one in histories]))
    if isinstance(scorer, Embeddings):
        return Embeddings(
            torch.stack([_vector(state, scorer, one) for one in histories]), scorer.items, parts=scorer.parts
        )
    if not isinstance(scorer, Neighbors):
        raise LMM4RecError(f"a {type(scorer).__name__} has no fold-in for unknown users")
    if type(scorer) is Neighbors and all((one.items < scorer.similarity.shape[1]).all() for one in histories):
        return scorer.of_histories(_seen([one.items for one in histories], scorer))
    rows = [
        fold_in_neighbors(scorer, one.items) if one.new_share else scorer.scores(torch.tensor([one.row]))[0]
        for one in histories
    ]
    return ComputedScores(torch.stack(rows))


def _vector(state: BundleState, scorer: Embeddings, history: UserHistory) -> Float[Tensor, " dim"]:
    if history.row is None:
        return state.folded_in(history.items)
    trained = scorer.users[history.row]
    if not history.new_share:
        return trained
    return torch.lerp(trained, state.folded_in(history.items), history.new_share)


def _seen(histories: Sequence[Int64[np.ndarray, " _items"]], scorer: Neighbors) -> Tensor:
    matrix = _matrix(histories, scorer.similarity.shape[1])
    starts, columns = (torch.from_numpy(part.astype(np.int64)) for part in (matrix.indptr, matrix.indices))
    return csr_matrix(starts, columns, torch.ones(len(columns)), matrix.shape)


def _matrix(rows: Sequence[Int64[np.ndarray, " _columns"]], n_columns: int) -> sp.csr_array:
    """The boolean matrix with these columns in each row."""
    ends = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
    columns = np.concatenate([_NONE, *rows])
    return sp.csr_array((np.ones(len(columns), dtype=bool), columns, ends), shape=(len(rows), n_columns))
