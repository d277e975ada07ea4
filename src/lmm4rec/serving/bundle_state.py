"""What a bundle knows at one moment of its items, and of what its users have."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.coldstart.content_profile import CONTENT, ContentProfile, with_content_columns, without_content_columns
from lmm4rec.coldstart.content_to_vectors import ModalityShares
from lmm4rec.coldstart.user_fold_in import UserFoldIn, fold_in_neighbors
from lmm4rec.core.errors import DataError, LMM4RecError
from lmm4rec.core.types import Embeddings, Features, Neighbors, Scorer
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.evaluation.ranking import Ranking, barred, interaction_matrix, top_k
from lmm4rec.serving import scorer_operations
from lmm4rec.serving.answers import Recommendation
from lmm4rec.serving.catalog_view import Entry, Shelf
from lmm4rec.serving.index import Index


@dataclass(frozen=True)
class People:
    """The users and what they have."""

    users: Vocabulary
    seen: Interactions
    n_items: int  # of the catalog

    @cached_property
    def _matrix(self) -> sp.csr_array:
        return interaction_matrix([self.seen], n_users=len(self.users), n_items=self.n_items)

    @cached_property
    def _by_user(self) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " ends"]]:
        counts = self.seen.user_counts(len(self.users))
        return np.argsort(self.seen.users, kind="stable"), np.concatenate([[0], np.cumsum(counts)])

    def matrix(self, n_items: int) -> sp.csr_array:
        """Who has what, with as many columns as there are items by now."""
        known = self._matrix
        if known.shape[1] == n_items:
            return known
        return sp.csr_array((known.data, known.indices, known.indptr), shape=(known.shape[0], n_items))

    def log_of(self, user: int) -> Int64[np.ndarray, " entries"]:
        """Where a user's entries are in the log, the latest first where it has times."""
        order, ends = self._by_user
        at = order[ends[user] : ends[user + 1]]
        times = self.seen.timestamps
        return at if times is None else at[np.argsort(-times[at], kind="stable")]

    def items_of(self, user: int) -> Int64[np.ndarray, " items"]:
        """The rows of what a user has, ascending."""
        return np.unique(self.seen.items[self.log_of(user)]).astype(np.int64)


@dataclass(frozen=True)
class State:
    """The items of one moment: what is shown of them, what ranks them, what they look like."""

    shelf: Shelf
    scorer: Scorer
    features: Features  # empty where the bundle holds none
    index: Index | None = None
    profile: ContentProfile | None = None  # tastes by content; it knows the content of all items
    origins: ModalityShares = field(default_factory=dict)  # a row for each of the last items
    folding: list[UserFoldIn] = field(default_factory=list)  # made when it is first needed, and shared by later states

    def ready(self, people: People) -> State:
        """The state whose scorer has the columns of the profile; they come when the first item is added."""
        if self.profile is None or not isinstance(self.scorer, Embeddings) or CONTENT in self.scorer.parts:
            return self
        known = self.profile.known
        columns = self.profile.user_columns(self.scorer.users, people.matrix(len(known)), known)
        state = replace(self, scorer=with_content_columns(self.scorer, columns))
        vars(state).update({name: vars(self)[name] for name in ("unit_features", "unit_vectors") if name in vars(self)})
        return state

    def with_added(
        self,
        entries: Sequence[Entry],
        vectors: Tensor,
        features: Features,
        known: Tensor | None = None,
        origins: ModalityShares | None = None,
    ) -> State:
        """The state with more items; `known` is their content as tastes take it, `origins` where vectors come from."""
        shelf = self.shelf.with_added(entries)
        kept = {m: torch.cat([x, features[m].to(x.dtype)]) for m, x in self.features.items()}
        scorer, profile = scorer_operations.grown(self.scorer, vectors), self.profile
        if profile is not None and known is not None:
            profile = replace(profile, known=torch.cat([profile.known, known]))
        origins = {m: torch.cat([self.origins[m], x] if self.origins else [x]) for m, x in (origins or {}).items()}
        state = replace(self, shelf=shelf, scorer=scorer, features=kept, profile=profile, origins=origins)
        # what was made once for all items grows with them
        if "unit_features" in vars(self):
            unit = {m: torch.cat([x, F.normalize(features[m].float(), dim=1)]) for m, x in self.unit_features.items()}
            vars(state)["unit_features"] = unit
        if "unit_vectors" in vars(self) and isinstance(self.scorer, Embeddings):
            new = scorer_operations.unit_vectors(replace(self.scorer, items=vectors))
            vars(state)["unit_vectors"] = torch.cat([self.unit_vectors, new])
        return state

    def without(self, ids: Iterable[object]) -> State:
        """The state without some items."""
        state = replace(self, shelf=self.shelf.without(ids))
        vars(state).update({name: vars(self)[name] for name in ("unit_features", "unit_vectors") if name in vars(self)})
        return state

    def best(
        self, users: Int64[np.ndarray, " users"], k: int, exclude: sp.csr_array | None, only: Iterable[object] | None
    ) -> Ranking:
        """The best items of user rows."""
        chosen = self.shelf.chosen(only)
        if self.index is not None and isinstance(self.scorer, Embeddings):
            hidden = [None if exclude is None else _columns(exclude, row) for row in users.tolist()]
            return self.index.search(self.scorer.users[torch.from_numpy(users)], self.scorer.items, k, chosen, hidden)
        return top_k(barred(self.scorer, chosen), users, k, exclude=() if exclude is None else exclude)

    def best_for(
        self,
        liked: Int64[np.ndarray, " liked"],
        k: int,
        exclude: Int64[np.ndarray, " n"],
        only: Iterable[object] | None,
    ) -> Ranking:
        """The best items for a person who is known by what they like."""
        chosen = self.shelf.chosen(only)
        if isinstance(self.scorer, Embeddings):
            user = self._taken_in(self.scorer, liked)
            if self.index is not None:
                return self.index.search(user[None], self.scorer.items, k, chosen, [np.unique(exclude)])
            scores = self.scorer.items @ user
        elif isinstance(self.scorer, Neighbors):
            scores = fold_in_neighbors(self.scorer, liked)
        else:
            raise LMM4RecError(f"a {type(self.scorer).__name__} cannot take in people")
        hidden = (np.ones(len(exclude), dtype=bool), (np.zeros(len(exclude), np.int64), exclude))
        known = sp.csr_array(hidden, shape=(1, len(self.shelf)))
        return top_k(barred(scorer_operations.Scores(scores[None]), chosen), np.zeros(1, np.int64), k, exclude=known)

    def likeness(self, rows: Int64[np.ndarray, " chosen"]) -> Float[Tensor, "chosen items"]:
        """How similar every item is to each of the given ones.

        Raises:
            DataError: the model knows nothing by which items could be alike.
        """
        if isinstance(self.scorer, Neighbors):
            return scorer_operations.stored_similarity(self.scorer.similarity, torch.from_numpy(rows))
        if not self.unit_vectors.shape[1]:
            raise DataError("this model ranks all items alike for everybody, so it knows no similar ones")
        return self.unit_vectors[torch.from_numpy(rows)] @ self.unit_vectors.T

    def likeness_to(self, row: int, others: Int64[np.ndarray, " others"]) -> Float[Tensor, " others"]:
        """How similar each of the `others` is to one item; nothing is where the model knows no similar ones."""
        if isinstance(self.scorer, Neighbors):
            return self.likeness(np.array([row]))[0, torch.from_numpy(others)]
        if not self.unit_vectors.shape[1]:
            return torch.full((len(others),), -torch.inf)
        return self.unit_vectors[torch.from_numpy(others)] @ self.unit_vectors[row]

    def named(self, rows: list[int], scores: list[float]) -> list[Recommendation]:
        """Rows with scores as answers; what pads a list that is short of items is left out."""
        return [
            Recommendation(self.shelf.id(row), self.shelf.title(row), score)
            for row, score in zip(rows, scores, strict=True)
            if row >= 0 and score > -np.inf
        ]

    @cached_property
    def unit_features(self) -> Features:
        """The features scaled to length 1; zeros where an item lacks the modality."""
        return {modality: F.normalize(x.float(), dim=1) for modality, x in self.features.items()}

    @cached_property
    def unit_vectors(self) -> Float[Tensor, "items dim"]:
        """The item vectors without the bias, scaled to length 1."""
        if not isinstance(self.scorer, Embeddings):
            raise LMM4RecError(f"a {type(self.scorer).__name__} has no item vectors to compare")
        return scorer_operations.unit_vectors(self.scorer)

    def _taken_in(self, scorer: Embeddings, liked: Int64[np.ndarray, " liked"]) -> Float[Tensor, " dim"]:
        """The vector of a person who likes these items; the content of all of them tells their tastes by content."""
        own = without_content_columns(scorer)
        if not self.folding:
            self.folding.append(UserFoldIn.of(replace(own, items=own.items[: len(self.shelf.catalog)])))
        user = self.folding[0](own.items[torch.from_numpy(liked)])
        if CONTENT not in scorer.parts:
            return user
        assert self.profile is not None
        known = self.profile.known[torch.from_numpy(liked)]
        return torch.cat(
            [user, self.profile.user_columns(user[None], sp.csr_array(np.ones((1, len(liked)))), known)[0]]
        )


def _columns(matrix: sp.csr_array, row: int) -> Int64[np.ndarray, " columns"]:
    return matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]].astype(np.int64)
