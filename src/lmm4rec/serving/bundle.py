"""The bundle: what leaves a run and recommends without any training code."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from lmm4rec.coldstart.content_to_vectors import ContentToVectors
from lmm4rec.core.errors import DataError, LMM4RecError
from lmm4rec.core.types import Embeddings, Features, ItemImage, Modality, Scorer
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.interactions import Interactions
from lmm4rec.serving import bundle_files, search
from lmm4rec.serving.answers import Explanation, NewItem, Recommendation, Seen
from lmm4rec.serving.bundle_encoder import EncoderRecord, Reader
from lmm4rec.serving.bundle_state import People, State
from lmm4rec.serving.catalog_view import Shelf
from lmm4rec.serving.explain import shares
from lmm4rec.serving.index import Index
from lmm4rec.serving.new_items import arrived, as_image, completed

_NEAREST = 5  # liked items that an explanation names
_PROBES = 4  # items whose words a loaded encoder must read as before


class Bundle:
    """A trained model with its ids: external ids in, external ids out.

    Any number of threads may ask while another adds or removes items; each answer is that of one moment.
    """

    def __init__(
        self,
        scorer: Scorer,
        users: Vocabulary,
        items: Vocabulary,
        titles: Sequence[str],
        seen: Interactions,
        facts: Mapping[str, Any],
        *,
        fields: pl.DataFrame | None = None,
        thumbnails: Mapping[int, bytes] | None = None,
        features: Features | None = None,
        newcomers: ContentToVectors | None = None,
        encoder: EncoderRecord | None = None,
        lost: Mapping[Modality, Tensor] | None = None,
    ) -> None:
        """`seen` is what each user already has, `facts` are model, data and metrics; the rest is optional.

        `fields` are the items' texts by column, `thumbnails` small images by row, `features` what searches look at,
        `newcomers` what makes vectors for new items, `encoder` what reads their content and queries,
        `lost` what the item vectors lose without each modality, where no columns of their own tell it.
        """
        shelf = Shelf(items, titles, pl.DataFrame() if fields is None else fields, thumbnails or {})
        self.users, self.seen, self.facts = users, seen, facts
        self.newcomers, self.encoder, self.lost = newcomers, encoder, lost or {}
        self._people = People(users, seen, len(items))
        self._state = State(
            shelf,
            scorer.detach() if isinstance(scorer, Embeddings) else scorer,
            features or {},
            profile=newcomers.profile if newcomers else None,
        )
        self._changing, self._loading = threading.Lock(), threading.Lock()
        self._reader: Reader | None = None

    @classmethod
    def of(cls, scorer: Scorer, dataset: Dataset, facts: Mapping[str, Any], **more: Any) -> Bundle:
        """The bundle of a trained model; all known interactions count as seen. `more` is as in `Bundle`."""
        titles = tuple(dataset.catalog.title(row) for row in range(dataset.n_items))
        more = {"fields": dataset.catalog.fields, **more}
        return cls(scorer, dataset.users, dataset.items, titles, dataset.interactions, facts, **more)

    @property
    def scorer(self) -> Scorer:
        """What ranks; its rows include those of removed items."""
        return self._state.scorer

    @property
    def items(self) -> Vocabulary:
        """The ids of all items that can be given."""
        return self._state.shelf.ids

    def recommend(
        self,
        users: Iterable[object],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        only: Iterable[object] | None = None,
    ) -> dict[str, list[Recommendation]]:
        """The `k` best items for each user, best first; ties go to the item that stands first in the catalog.

        With `only`, no other items than these are given.

        Raises:
            DataError: a user, or an item of `only`, is unknown.
        """
        asked, state = [str(user) for user in users], self._state
        exclude = self._people.matrix(len(state.shelf)) if exclude_seen else None
        best = state.best(self.users.rows(asked), k, exclude, only)
        lists = zip(asked, best.items.tolist(), best.scores.tolist(), strict=True)
        return {user: state.named(items, scores) for user, items, scores in lists}

    def recommend_for(
        self,
        history: Iterable[object],
        k: int = 10,
        *,
        exclude: Iterable[object] = (),
        only: Iterable[object] | None = None,
    ) -> list[Recommendation]:
        """The `k` best items for a person whom the model has never seen, from the items that they like.

        Neither these nor the items of `exclude` are given. How the person is taken in: `folding.UserFoldIn`.

        Raises:
            DataError: an item is unknown, or the history is empty.
        """
        state = self._state
        liked = np.unique(state.shelf.rows(history))
        if not len(liked):
            raise DataError("the history is empty: give at least one item that the person likes")
        hidden = np.concatenate([liked, state.shelf.rows(exclude)])
        best = state.best_for(liked, k, hidden, only)
        return state.named(best.items[0].tolist(), best.scores[0].tolist())

    def similar(self, items: Iterable[object], k: int = 10) -> dict[str, list[Recommendation]]:
        """The `k` items whose vectors (or common users) are nearest to each given one, by cosine.

        Raises:
            DataError: an item is unknown, or the model knows no similar ones.
        """
        asked, state = [str(item) for item in items], self._state
        rows = state.shelf.rows(asked)
        likeness = state.likeness(rows).masked_fill(~state.shelf.is_there, -torch.inf)
        likeness[torch.arange(len(rows)), torch.from_numpy(rows)] = -torch.inf
        top = likeness.topk(min(k, len(state.shelf)), dim=1)
        lists = zip(asked, top.indices.tolist(), top.values.tolist(), strict=True)
        return {item: state.named(found, scores) for item, found, scores in lists}

    def search(
        self,
        text: str | None = None,
        image: ItemImage | bytes | None = None,
        k: int = 10,
        for_user: object | None = None,
    ) -> list[Recommendation]:
        """The `k` items that words, or an image, find best; with `for_user`, what suits that user comes first.

        Raises:
            LMM4RecError: the bundle's encoder gives no vector for such a query.
            ImageError: the image cannot be read.
            DataError: the user is unknown, or the query is empty.
        """
        state, reader = self._state, self._encoder()
        query = search.query(reader, text, as_image(image))
        relevance = search.relevance(query, state.unit_features, joint=reader.joint)
        relevance = relevance.masked_fill(~state.shelf.is_there, -torch.inf)
        if for_user is not None:
            row = torch.tensor([self.users.row(for_user)])
            relevance = search.personal(relevance, state.scorer.scores(row)[0], k)
        top = relevance.topk(min(k, len(relevance)))
        return state.named(top.indices.tolist(), top.values.tolist())

    def add_items(self, items: Iterable[NewItem]) -> None:
        """Take in items that the model has not seen: they are recommended, similar and found at once.

        All of them, or none where one is refused.

        Raises:
            DataError: an id is taken, or an item has no content that the encoder sees.
            ImageError: an image cannot be read.
            LMM4RecError: the bundle holds nothing that makes vectors from content.
        """
        if self.newcomers is None:
            raise LMM4RecError(
                "this bundle makes no vectors from content, so it takes no new items: give its run an [encoder] table"
            )
        columns = self._state.shelf.fields.columns
        new = [completed(item, columns) for item in items]
        if not new:
            return
        features, entries = arrived(new, self._encoder)
        with self._changing:
            state = self._state.ready(self._people)
            vectors = self.newcomers.vectors(features, state.scorer, state.features)
            origins = self.newcomers.modality_shares(features, state.scorer)
            self._state = state.with_added(
                entries, vectors, features, self.newcomers.profile_content(features), origins
            )

    def remove_items(self, ids: Iterable[object]) -> None:
        """Never give these items again; their ids are free then.

        Raises:
            DataError: one of them is unknown; none is removed then.
        """
        with self._changing:
            self._state = self._state.without(ids)

    def explain(self, user: object, item: object) -> Explanation:
        """Why an item has its score for a user: the parts of the score, and the most similar items that they have.

        Raises:
            DataError: the user or the item is unknown.
        """
        state, row = self._state, self.users.row(user)
        at = state.shelf.row(item)
        parts = shares(state, row, at, self.lost, self.newcomers.content if self.newcomers else None)
        liked = np.setdiff1d(self._people.items_of(row), [at])
        top = state.likeness_to(at, liked).topk(min(_NEAREST, len(liked)))
        nearest = state.named(liked[top.indices.numpy()].tolist(), top.values.tolist())
        return Explanation(sum(parts.values()), parts, nearest)

    def history(self, user: object) -> list[Seen]:
        """What a user has, the latest first where the log has times.

        Raises:
            DataError: the user is unknown.
        """
        shelf, at, times = self._state.shelf, self._people.log_of(self.users.row(user)), self.seen.timestamps
        when = [None] * len(at) if times is None else times[at].tolist()
        rows = self.seen.items[at].tolist()
        return [Seen(shelf.id(row), shelf.title(row), time) for row, time in zip(rows, when, strict=True)]

    def title(self, item: object) -> str:
        """What people call the item."""
        shelf = self._state.shelf
        return shelf.title(shelf.row(item))

    def fields(self, item: object) -> dict[str, str]:
        """The item's texts by column."""
        shelf = self._state.shelf
        return dict(shelf.entry(shelf.row(item)).fields)

    def thumbnail(self, item: object) -> bytes | None:
        """A small WebP image of the item, where there is one."""
        shelf = self._state.shelf
        return shelf.entry(shelf.row(item)).thumbnail

    def save_pretrained(self, folder: str | Path, *, copy_encoder: bool = False) -> None:
        """Write the bundle, added and removed items included; a kill leaves the old one or the new one.

        With `copy_encoder` the encoder's weights come along, else they are named by where they lie.
        """
        state = self._state
        newcomers = replace(self.newcomers, profile=state.profile) if self.newcomers else None
        contents = bundle_files.Contents(
            state.scorer, self.users, state.shelf, self.seen, self.facts, state.features, newcomers, self.encoder,
            self.lost, state.origins,
        )  # fmt: skip
        bundle_files.write(contents, Path(folder), copy_encoder=copy_encoder)

    @classmethod
    def from_pretrained(cls, folder: str | Path, *, index: Literal["exact", "hnsw", "ivf"] = "exact") -> Bundle:
        """The bundle in a folder, or in the `bundle/` of a run folder.

        `index` is how the best items are found: "exact" scores all of them; "hnsw" and "ivf" are approximate, for
        catalogs where that takes too long (`serving.index`, extra `faiss`), and are built here.

        Raises:
            CheckpointError: there is no bundle, it is damaged, or of another version.
        """
        read = bundle_files.read(Path(folder))
        shelf, scorer = read.shelf, read.scorer
        bundle = cls(
            scorer, read.users, shelf.catalog, shelf.titles, read.seen, read.facts,
            newcomers=read.newcomers, encoder=read.encoder, lost=read.lost,
        )  # fmt: skip
        made = Index.build(scorer.items, index) if index != "exact" and isinstance(scorer, Embeddings) else None
        bundle._state = State(shelf, scorer, read.features, made, bundle._state.profile, read.origins)
        return bundle

    save, load = save_pretrained, from_pretrained

    def set_thumbnails(self, thumbnails: Mapping[int, bytes]) -> None:
        """Show these small images of catalog rows instead of those that there are."""
        with self._changing:
            self._state = replace(self._state, shelf=replace(self._state.shelf, thumbnails=thumbnails))

    def _encoder(self) -> Reader:
        if self.encoder is None:
            raise LMM4RecError(
                "this bundle has no encoder, so it can neither search nor read the content of new items: give its run "
                "an [encoder] table (not 'precomputed'), or give new items their features"
            )
        with self._loading:
            if self._reader is None:
                reader = Reader(self.encoder.make(self._state.shelf.catalog_items))
                if "text" in self._state.features:
                    has = self._state.features["text"][: len(self._state.shelf.catalog)].any(1).nonzero()[:_PROBES, 0]
                    reader.check(self._state.shelf.catalog_items(has.tolist()), self._state.features["text"][has])
                self._reader = reader
            return self._reader
