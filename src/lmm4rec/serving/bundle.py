"""The bundle: what leaves a run and recommends without any training code."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Int64

from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.hub import push_folder
from lmm4rec.core.types import Embeddings, Scorer
from lmm4rec.data.dataset import Dataset
from lmm4rec.serving import bundle_files
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle_answers import BundleAnswers
from lmm4rec.serving.bundle_source import source_folder
from lmm4rec.serving.index import Index
from lmm4rec.serving.new_items import encode_new_items, with_all_fields
from lmm4rec.serving.posted_interactions import LatestInteractions, PostedInteraction
from lmm4rec.serving.vector_files import VectorFormat, write_vectors

_ERASED_ROWS = "erased_rows"  # among the facts


class Bundle(BundleAnswers):
    """A trained model with its ids: external ids in, external ids out.

    Any number of threads may ask while another changes it; each answer is that of one moment.
    """

    @classmethod
    def of(cls, scorer: Scorer, dataset: Dataset, facts: Mapping[str, Any], **more: Any) -> Bundle:
        """The bundle of a trained model; all known interactions count as seen. `more` is as in `Bundle`."""
        titles = tuple(dataset.catalog.title(row) for row in range(dataset.n_items))
        catalog = dataset.catalog
        more = {"fields": catalog.fields, "attributes": catalog.attributes, "disliked": dataset.negatives, **more}
        return cls(scorer, dataset.users, dataset.items, titles, dataset.interactions, facts, **more)

    def add_items(self, items: Iterable[NewItem]) -> None:
        """Add items that the model was not trained on: they are in all answers from now on.

        All of them, or none where one is refused.

        Raises:
            DataError: an id is taken, or an item has no content that the encoder encodes.
            ImageError: an image cannot be read.
            LMM4RecError: the bundle has no maps from content to vectors.
        """
        if self.content_to_vectors is None:
            raise LMM4RecError(
                "this bundle has no maps from content to vectors, so it takes no new items: give its run an [encoder] "
                "table"
            )
        columns = self._state.catalog.fields.columns
        new = [with_all_fields(item, columns) for item in items]
        if not new:
            return
        features, entries = encode_new_items(new, self._open_encoder)
        with self._changing:
            state = self._state.with_profile_columns()
            self._state = state.with_added(entries, features, self.content_to_vectors)

    def remove_items(self, ids: Iterable[object]) -> None:
        """Remove items from all answers; their ids are free then.

        Raises:
            DataError: one of them is unknown; none is removed then.
        """
        with self._changing:
            self._state = self._state.without(ids)

    def add_interactions(self, interactions: Iterable[PostedInteraction]) -> None:
        """Add interactions of known or new users: they are in all answers from now on.

        A new user's vector comes from their items by `coldstart.user_fold_in`, a known one's goes towards that by the
        share of items that the model was not trained on; an item that the user dislikes is left out of their lists.
        Interactions with items that the catalog does not have count once it has them. `save_pretrained` does not write
        them; a service keeps them in a file of their own (`serving.feedback`).
        """
        self._posted.add(interactions)

    def use_interactions(self, interactions: LatestInteractions) -> None:
        """Count the added interactions of another bundle, now and in future, instead of this one's own."""
        self._posted = interactions

    def forget_users(self, ids: Iterable[object]) -> None:
        """Remove users, their vectors and all of their interactions; unknown ones are passed over."""
        gone = {str(id_) for id_ in ids}
        with self._changing:
            self._posted.forget(gone)
            if known := [id_ for id_ in gone if id_ in self.users]:
                rows = [*self.trained_rows[self.users.rows(known)], *self.erased_rows]
                self.facts = {**self.facts, _ERASED_ROWS: sorted(map(int, rows))}
                self._state = self._state.without_users(known)

    @property
    def erased_rows(self) -> Sequence[int]:
        """The rows of removed users in the weights of the training."""
        rows: Sequence[int] = self.facts.get(_ERASED_ROWS, ())
        return rows

    @property
    def trained_rows(self) -> Int64[np.ndarray, " users"]:
        """The row of each user in the weights of the training."""
        erased = np.array(self.erased_rows, np.int64)
        return np.setdiff1d(np.arange(len(self.users) + len(erased)), erased)

    def save_pretrained(self, folder: str | Path, *, copy_encoder: bool = False) -> None:
        """Write the bundle, added and removed items included; a kill leaves the old one or the new one.

        With `copy_encoder` the encoder's weights are copied, else the bundle names the place where they are.
        """
        state, maps = self._state, self.content_to_vectors
        contents = bundle_files.BundleContents(
            state.scorer, state.histories.users, state.catalog, state.histories.seen, self.facts, state.features,
            replace(maps, profile=state.profile) if maps else None, self.encoder, self.lost, state.modality_shares,
            state.histories.disliked,
        )  # fmt: skip
        bundle_files.write(contents, Path(folder), copy_encoder=copy_encoder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, index: Literal["exact", "hnsw", "ivf"] = "exact") -> Bundle:
        """The bundle in a folder, in the `bundle/` of a run folder, or of a repository `owner/name` of the hub.

        A folder may be an address `s3://…`, `gs://…`, `az://…`; it is copied to this machine.

        `index` is how the best items are found: "exact" scores all of them; "hnsw" and "ivf" are approximate, for
        catalogs where that takes too long (`serving.index`, extra `faiss`), and are built here.

        Raises:
            CheckpointError: there is no bundle, it is damaged, or of another version.
            DataError: there is nothing at the address, or it cannot be read.
        """
        read = bundle_files.read(source_folder(folder))
        catalog, scorer = read.catalog, read.scorer
        bundle = cls(
            scorer, read.users, catalog.catalog, catalog.titles, read.seen, read.facts, features=read.features,
            content_to_vectors=read.content_to_vectors, encoder=read.encoder, lost=read.lost, disliked=read.disliked,
        )  # fmt: skip
        built = Index.build(scorer.items, index) if index != "exact" and isinstance(scorer, Embeddings) else None
        bundle._state = replace(bundle._state, catalog=catalog, index=built, modality_shares=read.modality_shares)
        return bundle

    def export_vectors(
        self,
        folder: str | Path,
        form: VectorFormat = "parquet",
        *,
        index: Literal["exact", "hnsw", "ivf"] = "exact",
    ) -> Mapping[str, Any]:
        """Write what the scores come from for other tools (`serving.vector_files`): vectors, or weights between items.

        Raises:
            ConfigError: the model has none of this form, or the folder holds something else.
        """
        return write_vectors(self._state, str(self.facts.get("model", "this model")), Path(folder), form, index)

    def push_to_hub(
        self, repository: str, *, token: str | None = None, private: bool = True, copy_encoder: bool = True
    ) -> str:
        """Upload the bundle with its model card as `owner/name` of the Hugging Face hub; returns the address.

        It is private unless said otherwise: a bundle holds the ids and histories of its users.

        Raises:
            ConfigError: there is no token, or the hub refuses it or cannot be reached.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, copy_encoder=copy_encoder)
            return push_folder(Path(folder), repository, token=token, private=private)

    save, load = save_pretrained, from_pretrained

    def set_thumbnails(self, thumbnails: Mapping[int, bytes]) -> None:
        """Replace the thumbnails of the catalog by these, by row."""
        with self._changing:
            self._state = replace(self._state, catalog=replace(self._state.catalog, thumbnails=thumbnails))
