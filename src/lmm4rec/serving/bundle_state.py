"""The state of a bundle at one moment: users, items, the scorer, features; immutable."""

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
from lmm4rec.coldstart.content_to_vectors import ContentToVectors, ModalityShares
from lmm4rec.coldstart.user_fold_in import UserFoldIn
from lmm4rec.core.errors import DataError, LMM4RecError
from lmm4rec.core.types import Embeddings, Features, Neighbors, Scorer
from lmm4rec.serving.answers import Recommendation
from lmm4rec.serving.catalog_view import CatalogEntry, CatalogView
from lmm4rec.serving.index import Index
from lmm4rec.serving.scorer_operations import similarity_among, similarity_columns, unit_vectors, with_items, with_users
from lmm4rec.serving.user_histories import UserHistories

_COMPUTED_ONCE = ("unit_features", "unit_vectors")


@dataclass(frozen=True)
class BundleState:
    """The users and items of one moment; changes return a new state."""

    histories: UserHistories  # of the users that the model was trained on
    catalog: CatalogView
    scorer: Scorer
    features: Features  # empty where the bundle holds none
    index: Index | None = None
    profile: ContentProfile | None = None  # it holds the content of all items
    modality_shares: ModalityShares = field(default_factory=dict)  # a row for each of the last items
    fold_in: list[UserFoldIn] = field(default_factory=list)  # computed when first needed, for all states of these users

    def with_profile_columns(self) -> BundleState:
        """The state whose scorer has the columns of the profile, which new items need."""
        if self.profile is None or not isinstance(self.scorer, Embeddings) or CONTENT in self.scorer.parts:
            return self
        known = self.profile.known
        columns = self.profile.user_columns(self.scorer.users, self.histories.matrix(len(known)), known)
        return self._with_computed(replace(self, scorer=with_content_columns(self.scorer, columns)))

    def with_added(
        self, entries: Sequence[CatalogEntry], features: Features, content_to_vectors: ContentToVectors
    ) -> BundleState:
        """The state with more items; the profile columns must be there (`with_profile_columns`)."""
        vectors = content_to_vectors.vectors(features, self.scorer, self.features)
        shares, profile = content_to_vectors.modality_shares(features, self.scorer), self.profile
        if profile is not None and (known := content_to_vectors.profile_content(features)) is not None:
            profile = replace(profile, known=torch.cat([profile.known, known]))
        state = replace(
            self,
            catalog=self.catalog.with_added(entries),
            scorer=with_items(self.scorer, vectors),
            features={m: torch.cat([x, features[m].to(x.dtype)]) for m, x in self.features.items()},
            profile=profile,
            modality_shares={
                m: torch.cat([self.modality_shares[m], x]) if self.modality_shares else x for m, x in shares.items()
            },
        )
        # what was computed once for all items gets rows for the new ones
        if "unit_features" in vars(self):
            unit = {m: torch.cat([x, F.normalize(features[m].float(), dim=1)]) for m, x in self.unit_features.items()}
            vars(state)["unit_features"] = unit
        if "unit_vectors" in vars(self) and isinstance(self.scorer, Embeddings):
            new = unit_vectors(replace(self.scorer, items=vectors))
            vars(state)["unit_vectors"] = torch.cat([self.unit_vectors, new])
        return state

    def without(self, ids: Iterable[object]) -> BundleState:
        """The state without some items."""
        return self._with_computed(replace(self, catalog=self.catalog.without(ids)))

    def without_users(self, ids: Iterable[str]) -> BundleState:
        """The state without some users, in which nothing of them is left."""
        gone = {self.histories.users.row(id_) for id_ in ids}
        kept = np.array([row for row in range(len(self.histories.users)) if row not in gone], dtype=np.int64)
        histories, scorer = self.histories.select(kept), with_users(self.scorer, kept)
        state = replace(self, histories=histories, scorer=scorer, fold_in=[])
        return self._with_computed(state)

    def _with_computed(self, state: BundleState) -> BundleState:
        """Another state of the same rows, with what was computed once for all items."""
        vars(state).update({name: vars(self)[name] for name in _COMPUTED_ONCE if name in vars(self)})
        return state

    def similarity(
        self, rows: Int64[np.ndarray, " chosen"], others: Int64[np.ndarray, " others"] | None = None
    ) -> Float[Tensor, "chosen others"]:
        """The similarity of the other items (None: every item) to each of the given ones.

        Raises:
            DataError: the model has no similarity of items.
        """
        if isinstance(self.scorer, Neighbors):
            if others is None:
                return similarity_columns(self.scorer.similarity, torch.from_numpy(rows))
            return similarity_among(self.scorer.similarity, torch.from_numpy(rows), torch.from_numpy(others))
        if not self.unit_vectors.shape[1]:
            raise DataError("this model ranks the items in the same way for all users, so it knows no similar ones")
        compared = self.unit_vectors if others is None else self.unit_vectors[torch.from_numpy(others)]
        return self.unit_vectors[torch.from_numpy(rows)] @ compared.T

    def cosines(self, rows: Int64[np.ndarray, " chosen"], by: str = "vectors") -> Float[np.ndarray, "chosen chosen"]:
        """The cosines of items with each other: of the model's vectors, or of the items' users where it has none.

        By "content" it is the mean over the modalities of the features; 0 with an item that lacks one.
        """
        if by == "content":
            sides = [x[torch.from_numpy(rows)] for x in self.unit_features.values()]
            return np.asarray(torch.stack([side @ side.T for side in sides]).mean(0))
        if isinstance(self.scorer, Embeddings) and self.unit_vectors.shape[1]:
            vectors = self.unit_vectors[torch.from_numpy(rows)]
            return (vectors @ vectors.T).numpy()
        return self.histories.item_cosines(rows)

    def similarity_to(self, row: int, others: Int64[np.ndarray, " others"]) -> Float[Tensor, " others"]:
        """The similarity of each of the `others` to one item; minus infinity where the model has none."""
        if not isinstance(self.scorer, Neighbors) and not self.unit_vectors.shape[1]:
            return torch.full((len(others),), -torch.inf)
        return self.similarity(np.array([row]), others)[0]

    def recommendations(self, rows: list[int], scores: list[float]) -> list[Recommendation]:
        """Rows with scores as answers, without the padding of a list that is short of items."""
        return [
            Recommendation(self.catalog.id(row), self.catalog.title(row), score)
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
        return unit_vectors(self.scorer)

    def folded_in(self, history: Int64[np.ndarray, " history"]) -> Float[Tensor, " dim"]:
        """The vector of a user with this history, the profile columns included."""
        assert isinstance(self.scorer, Embeddings)
        own = without_content_columns(self.scorer)
        if not self.fold_in:
            self.fold_in.append(UserFoldIn.of(replace(own, items=own.items[: len(self.catalog.catalog)])))
        user = self.fold_in[0](own.items[torch.from_numpy(history)])
        if CONTENT not in self.scorer.parts:
            return user
        assert self.profile is not None
        known = self.profile.known[torch.from_numpy(history)]
        interactions = sp.csr_array(np.ones((1, len(history))))
        return torch.cat([user, self.profile.user_columns(user[None], interactions, known)[0]])
