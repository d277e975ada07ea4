"""The bundle: what leaves a run and recommends without any training code."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import scipy.sparse as sp
import torch

from lmm4rec.core.errors import DataError, LMM4RecError, did_you_mean
from lmm4rec.core.types import Features, Item, Picture, Scorer
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.images import ImageBytes
from lmm4rec.data.interactions import Interactions
from lmm4rec.evaluation.ranking import interaction_matrix, top_k
from lmm4rec.serving import searching, space, storage
from lmm4rec.serving.answers import Explanation, NewItem, Recommendation, Seen
from lmm4rec.serving.encoding import EncoderRecord, Reader
from lmm4rec.serving.newcomers import Newcomers
from lmm4rec.serving.shelf import Entry, Shelf
from lmm4rec.serving.thumbnails import thumbnail

_NEAREST = 5  # liked items that an explanation names


@dataclass(frozen=True)
class _State:
    """What changes together when items come and go."""

    shelf: Shelf
    scorer: Scorer
    features: Features  # empty where the bundle holds none


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
        newcomers: Newcomers | None = None,
        encoder: EncoderRecord | None = None,
    ) -> None:
        """`seen` is what each user already has, `facts` are model, data and metrics; the rest is optional."""
        self.users, self.seen, self.facts = users, seen, facts
        self.newcomers, self.encoder = newcomers, encoder
        shelf = Shelf(items, titles, pl.DataFrame() if fields is None else fields, thumbnails or {})
        self._state = _State(shelf, scorer, features or {})
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
        exclude = self._seen_by_row(len(state.shelf)) if exclude_seen else ()
        scorer = space.barred(state.scorer, state.shelf.chosen(only))
        items, scores = top_k(scorer, self.users.rows(asked), k, exclude=exclude)
        return {user: _named(state, *row) for user, *row in zip(asked, items.tolist(), scores.tolist(), strict=True)}

    def recommend_for(
        self,
        history: Iterable[object],
        k: int = 10,
        *,
        exclude: Iterable[object] = (),
        only: Iterable[object] | None = None,
    ) -> list[Recommendation]:
        """The `k` best items for a person whom the model has never seen, from the items that they like.

        Neither these nor the items of `exclude` are given.

        Raises:
            DataError: an item is unknown, or the history is empty.
        """
        state = self._state
        liked = state.shelf.rows(history)
        hidden = np.concatenate([liked, state.shelf.rows(exclude)])
        scorer = space.barred(space.taken_in(state.scorer, liked), state.shelf.chosen(only))
        shape = (1, len(state.shelf))
        known = sp.csr_array((np.ones(len(hidden), dtype=bool), (np.zeros(len(hidden), int), hidden)), shape=shape)
        items, scores = top_k(scorer, np.zeros(1, np.int64), k, exclude=known)
        return _named(state, items[0].tolist(), scores[0].tolist())

    def similar(self, items: Iterable[object], k: int = 10) -> dict[str, list[Recommendation]]:
        """The `k` items whose vectors (or common users) are nearest to each given one, by cosine.

        Raises:
            DataError: an item is unknown.
        """
        asked, state = [str(item) for item in items], self._state
        rows = state.shelf.rows(asked)
        chosen = state.shelf.is_there.repeat(len(rows), 1)
        chosen[torch.arange(len(rows)), torch.from_numpy(rows)] = False
        likeness = space.likeness(state.scorer, rows).masked_fill(~chosen, -torch.inf)
        top = likeness.topk(min(k, len(state.shelf)), dim=1)
        return {
            item: _named(state, *row)
            for item, *row in zip(asked, top.indices.tolist(), top.values.tolist(), strict=True)
        }

    def search(
        self,
        text: str | None = None,
        image: Picture | bytes | None = None,
        k: int = 10,
        for_user: object | None = None,
    ) -> list[Recommendation]:
        """The `k` items that words, or a picture, find best; with `for_user`, what suits that user comes first.

        Raises:
            LMM4RecError: the bundle's encoder gives no vector for such a query.
            ImageError: the picture cannot be read.
            DataError: the user is unknown, or the query is empty.
        """
        state, reader = self._state, self._encoder()
        query = searching.query(reader, text, _picture(image))
        relevance = searching.relevance(query, state.features, joint=reader.joint)
        relevance = relevance.masked_fill(~state.shelf.is_there, -torch.inf)
        if for_user is not None:
            row = torch.tensor([self.users.row(for_user)])
            relevance = searching.personal(relevance, state.scorer.scores(row)[0], k)
        top = relevance.topk(min(k, len(relevance)))
        return _named(state, top.indices.tolist(), top.values.tolist())

    def add_items(self, items: Iterable[NewItem]) -> None:
        """Take in items that the model has not seen: they are recommended, similar and found at once.

        All of them, or none where one is refused.

        Raises:
            DataError: an id is taken, or an item has no content that the encoder sees.
            ImageError: a picture cannot be read.
            LMM4RecError: the bundle holds nothing that makes vectors from content.
        """
        new = [self._completed(item) for item in items]
        if not new:
            return
        newcomers, features = self._newcomers(), self._features(new)
        entries = [_entry(item) for item in new]
        with self._changing:
            state = self._state
            shelf = state.shelf.with_added(entries)
            vectors = newcomers.vectors(state.features, state.scorer, features)
            scorer = space.grown(state.scorer, vectors)
            kept = {m: torch.cat([x, features[m].to(x.dtype)]) for m, x in state.features.items()}
            self._state = _State(shelf, scorer, kept)

    def remove_items(self, ids: Iterable[object]) -> None:
        """Never give these items again; their ids are free then.

        Raises:
            DataError: one of them is unknown; none is removed then.
        """
        with self._changing:
            state = self._state
            self._state = _State(state.shelf.without(ids), state.scorer, state.features)

    def explain(self, user: object, item: object) -> Explanation:
        """Why an item has its score for a user: the parts of the score, and the most similar items that they have.

        Raises:
            DataError: the user or the item is unknown.
        """
        state = self._state
        row, at = self.users.row(user), state.shelf.row(item)
        parts = space.shares(state.scorer, row, at)
        liked = np.setdiff1d(self.seen.items[self._log_of(row)], [at])
        near = space.likeness(state.scorer, np.array([at]))[0, torch.from_numpy(liked)]
        top = near.topk(min(_NEAREST, len(liked)))
        nearest = _named(state, liked[top.indices.numpy()].tolist(), top.values.tolist())
        return Explanation(sum(parts.values()), parts, nearest)

    def history(self, user: object) -> list[Seen]:
        """What a user has, the latest first where the log has times.

        Raises:
            DataError: the user is unknown.
        """
        shelf, at = self._state.shelf, self._log_of(self.users.row(user))
        times = self.seen.timestamps
        when = [None] * len(at) if times is None else times[at].tolist()
        order = range(len(at)) if times is None else np.argsort(-times[at], kind="stable").tolist()
        rows = self.seen.items[at].tolist()
        return [Seen(shelf.id(rows[i]), shelf.title(rows[i]), when[i]) for i in order]

    def title(self, item: object) -> str:
        """What people call the item."""
        shelf = self._state.shelf
        return shelf.title(shelf.row(item))

    def fields(self, item: object) -> dict[str, str]:
        """The item's texts by column."""
        shelf = self._state.shelf
        return dict(shelf.entry(shelf.row(item)).fields)

    def thumbnail(self, item: object) -> bytes | None:
        """A small WebP picture of the item, where there is one."""
        shelf = self._state.shelf
        return shelf.entry(shelf.row(item)).thumbnail

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the bundle, added and removed items included; a kill leaves the old one or the new one."""
        state = self._state
        contents = storage.Contents(
            state.scorer, self.users, state.shelf, self.seen, self.facts, state.features, self.newcomers, self.encoder
        )
        storage.write(contents, Path(folder))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Bundle:
        """The bundle in a folder, or in the `bundle/` of a run folder.

        Raises:
            CheckpointError: there is no bundle, it is damaged, or of another version.
        """
        read = storage.read(Path(folder))
        shelf = read.shelf
        bundle = cls(
            read.scorer, read.users, shelf.catalog, shelf.titles, read.seen, read.facts,
            newcomers=read.newcomers, encoder=read.encoder,
        )  # fmt: skip
        bundle._state = _State(shelf, read.scorer, read.features)
        return bundle

    save, load = save_pretrained, from_pretrained

    @cached_property
    def _seen(self) -> sp.csr_array:
        shape = {"n_users": len(self.users), "n_items": len(self._state.shelf.catalog)}
        return interaction_matrix([self.seen], **shape)

    def _seen_by_row(self, n_items: int) -> sp.csr_array:
        """Who has what, wide enough for the items of a moment."""
        seen = self._seen
        if seen.shape[1] == n_items:
            return seen
        return sp.csr_array((seen.data, seen.indices, seen.indptr), shape=(seen.shape[0], n_items))

    @cached_property
    def _log(self) -> tuple[np.ndarray, np.ndarray]:
        """The places of the log's entries, user by user, and where each user's begin."""
        counts = self.seen.user_counts(len(self.users))
        return np.argsort(self.seen.users, kind="stable"), np.concatenate([[0], np.cumsum(counts)])

    def _log_of(self, user: int) -> np.ndarray:
        order, starts = self._log
        return order[starts[user] : starts[user + 1]]

    def _encoder(self) -> Reader:
        if self.encoder is None:
            raise LMM4RecError(
                "this bundle has no encoder, so it can neither search nor read the content of new items: give its run "
                "an [encoder] table (not 'precomputed'), or give new items their features"
            )
        with self._loading:
            if self._reader is None:
                self._reader = Reader(self.encoder.make(self._catalog_items))
            return self._reader

    def _catalog_items(self) -> list[Item]:
        shelf = self._state.shelf
        entries = (shelf.entry(row) for row in range(len(shelf.catalog)))
        return [Item(entry.id, entry.fields) for entry in entries]

    def _newcomers(self) -> Newcomers:
        if self.newcomers is None:
            raise LMM4RecError(
                "this bundle makes no vectors from content, so it takes no new items: give its run an [encoder] table"
            )
        return self.newcomers

    def _completed(self, item: NewItem) -> NewItem:
        """The item with an empty text in every column of the catalog that it does not name."""
        columns = self._state.shelf.fields.columns
        for key in item.fields:
            if columns and key not in columns:
                raise DataError(
                    f"item '{item.id}' has a text '{key}', the catalog has: {', '.join(columns)}."
                    f"{did_you_mean(key, columns)}"
                )
        return item._replace(fields=dict.fromkeys(columns, "") | dict(item.fields))

    def _features(self, new: Sequence[NewItem]) -> Features:
        if all(item.features for item in new):
            given = [item.features for item in new if item.features]
            return {m: torch.stack([torch.as_tensor(one[m]).float() for one in given]) for m in self._state.features}
        read = self._encoder().read([Item(item.id, item.fields, _picture(item.image)) for item in new])
        return {modality: read[modality] for modality in self._state.features}


def _named(state: _State, rows: list[int], scores: list[float]) -> list[Recommendation]:
    shelf = state.shelf
    return [
        Recommendation(shelf.id(row), shelf.title(row), score)
        for row, score in zip(rows, scores, strict=True)
        if row >= 0 and score > -torch.inf  # what pads where fewer than k are left
    ]


def _picture(image: Picture | bytes | None) -> Picture | None:
    return ImageBytes(image) if isinstance(image, bytes) else image


def _entry(item: NewItem) -> Entry:
    picture = _picture(item.image)
    small = None if picture is None else thumbnail(picture)
    return Entry(str(item.id), item.fields.get("title", "") or str(item.id), dict(item.fields), small)
