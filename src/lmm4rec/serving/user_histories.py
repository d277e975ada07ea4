"""The histories of a bundle's users: which items each of them has interacted with, and when."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float, Int64

from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.negative_signals import NegativeSignals
from lmm4rec.evaluation.ranking import interaction_matrix


@dataclass(frozen=True)
class UserHistories:
    """The users and their interactions with the items of the catalog."""

    users: Vocabulary
    seen: Interactions
    n_items: int  # of the catalog
    disliked: NegativeSignals = field(default_factory=NegativeSignals)

    @cached_property
    def _matrix(self) -> sp.csr_array:
        return interaction_matrix([self.seen], n_users=len(self.users), n_items=self.n_items)

    @cached_property
    def _with_disliked(self) -> sp.csr_array:
        if not len(self.disliked):
            return self._matrix
        logs = [self.seen, Interactions(self.disliked.users, self.disliked.items)]
        return interaction_matrix(logs, n_users=len(self.users), n_items=self.n_items)

    @cached_property
    def _unit_columns(self) -> sp.csc_array:
        """The interaction matrix with columns of length 1."""
        columns = self._matrix.tocsc().astype(np.float32)
        counts = np.diff(columns.indptr)
        columns.data = np.repeat(1 / np.sqrt(np.maximum(counts, 1), dtype=np.float32), counts)
        return columns

    def item_cosines(self, rows: Int64[np.ndarray, " chosen"]) -> Float[np.ndarray, "chosen chosen"]:
        """The cosines of items by their users; 0 with an added item, which has none."""
        known = np.flatnonzero(rows < self.n_items)
        users = self._unit_columns[:, rows[known]]
        cosines = np.zeros((len(rows), len(rows)), dtype=np.float32)
        cosines[np.ix_(known, known)] = (users.T @ users).toarray()
        return cosines

    @cached_property
    def _by_user(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " ends"]]:
        counts = self.seen.user_counts(len(self.users))
        return np.argsort(self.seen.users, kind="stable"), np.concatenate([[0], np.cumsum(counts)])

    def matrix(self, n_items: int) -> sp.csr_array:
        """The interaction matrix with columns for `n_items`, added ones included."""
        return _with_columns(self._matrix, n_items)

    def excluded(self, n_items: int) -> sp.csr_array:
        """The matrix of what is not recommended: the interactions and the negative signals."""
        return _with_columns(self._with_disliked, n_items)

    def select(self, rows: Int64[np.ndarray, " chosen"]) -> UserHistories:
        """The histories of the chosen users, renumbered."""
        new_row = np.full(len(self.users), -1, dtype=np.int32)
        new_row[rows] = np.arange(len(rows), dtype=np.int32)
        seen = self.seen.take(new_row[self.seen.users] >= 0)
        seen = replace(seen, users=new_row[seen.users])
        disliked = self.disliked.keep(new_row >= 0, np.ones(self.n_items, dtype=bool))
        return UserHistories(self.users.select(rows.tolist()), seen, self.n_items, disliked)

    def entries_of(self, user: int) -> Int64[np.ndarray, " entries"]:
        """The positions of a user's interactions in the log, the latest first where it has times."""
        order, ends = self._by_user
        at = order[ends[user] : ends[user + 1]]
        times = self.seen.timestamps
        return at if times is None else at[np.argsort(-times[at], kind="stable")]

    def in_order(self, user: int) -> Int64[np.ndarray, " entries"]:
        """The positions of a user's interactions in the log, the latest last; of equal or no times, as in the log."""
        order, ends = self._by_user
        at = order[ends[user] : ends[user + 1]]
        times = self.seen.timestamps
        return at if times is None else at[np.argsort(times[at], kind="stable")]

    def excluded_for(self, user: int) -> Int64[np.ndarray, " items"]:
        """The rows of a user's items and of those that they have a negative signal for, ascending."""
        return columns_of(self._with_disliked, user)

    def length(self, user: str) -> int:
        """The number of interactions of a user; 0 for an unknown one."""
        if user not in self.users:
            return 0
        row, (_, ends) = self.users.row(user), self._by_user
        return int(ends[row + 1] - ends[row])

    def items_of(self, user: int) -> Int64[np.ndarray, " items"]:
        """The rows of a user's items, ascending."""
        return np.unique(self.seen.items[self.entries_of(user)]).astype(np.int64)


def columns_of(matrix: sp.csr_array, row: int) -> Int64[np.ndarray, " columns"]:
    """The columns of a row of a matrix, ascending."""
    return matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]].astype(np.int64)


def _with_columns(known: sp.csr_array, n_items: int) -> sp.csr_array:
    if known.shape[1] == n_items:
        return known
    return sp.csr_array((known.data, known.indices, known.indptr), shape=(known.shape[0], n_items))
