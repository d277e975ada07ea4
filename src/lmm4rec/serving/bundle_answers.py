"""The answers of a bundle: lists, similar items, searches, explanations, histories; with external ids throughout."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from lmm4rec.coldstart.content_to_vectors import ContentToVectors
from lmm4rec.core.errors import DataError, LMM4RecError
from lmm4rec.core.types import Embeddings, Features, ItemImage, Modality, Scorer
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.negative_signals import NegativeSignals
from lmm4rec.distributed.pool import Pool
from lmm4rec.serving import search
from lmm4rec.serving.answers import Explanation, HistoryItem, Recommendation
from lmm4rec.serving.asked_users import AskedUsers, asked_history, asked_users, history_items, user_history
from lmm4rec.serving.bundle_state import BundleState
from lmm4rec.serving.catalog_filters import Filter
from lmm4rec.serving.catalog_view import CatalogView
from lmm4rec.serving.content_encoder import ContentEncoder
from lmm4rec.serving.encoder_record import EncoderRecord
from lmm4rec.serving.explain import explain
from lmm4rec.serving.item_ranges import ItemRange, best_in_ranges
from lmm4rec.serving.new_items import as_image
from lmm4rec.serving.posted_interactions import LatestInteractions, is_negative
from lmm4rec.serving.rule_ranking import RuledList, check_rules, ruled_lists
from lmm4rec.serving.rules import RuleSet
from lmm4rec.serving.scorer_operations import without_scale
from lmm4rec.serving.user_histories import UserHistories


class BundleAnswers:
    """A trained model with its ids, as far as it only answers.

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
        attributes: pl.DataFrame | None = None,
        thumbnails: Mapping[int, bytes] | None = None,
        features: Features | None = None,
        content_to_vectors: ContentToVectors | None = None,
        encoder: EncoderRecord | None = None,
        lost: Mapping[Modality, Tensor] | None = None,
        disliked: NegativeSignals | None = None,
    ) -> None:
        """`seen` are the users' interactions, `facts` are model, data and metrics; the rest is optional.

        `fields` are the items' texts by column, `attributes` other columns to filter by, `thumbnails` small images by
        row, `features` those that searches compare, `content_to_vectors` the maps that give new items vectors,
        `encoder` what encodes them and queries, `lost` what the item vectors lose without each modality, for a model
        whose columns do not tell, `disliked` the users' negative signals, which are not recommended to them.
        """
        fields, attributes = (pl.DataFrame() if one is None else one for one in (fields, attributes))
        catalog = CatalogView(items, titles, fields, thumbnails or {}, attributes=attributes)
        self.facts = facts
        self.content_to_vectors, self.encoder, self.lost = content_to_vectors, encoder, lost or {}
        self._posted = LatestInteractions()
        self._state = BundleState(
            UserHistories(users, seen, len(items), disliked or NegativeSignals()),
            catalog,
            scorer.detach() if isinstance(scorer, Embeddings) else scorer,
            features or {},
            profile=content_to_vectors.profile if content_to_vectors else None,
        )
        self._changing, self._loading = threading.Lock(), threading.Lock()
        self._opened: ContentEncoder | None = None

    def __repr__(self) -> str:
        model = self.facts.get("model", "a recommender")
        return f"Bundle({model}: {len(self.users):,} users, {len(self.items):,} items, {len(self.seen):,} interactions)"

    @property
    def scorer(self) -> Scorer:
        """The scorer; its rows include those of removed items."""
        return self._state.scorer

    @property
    def users(self) -> Vocabulary:
        """The ids of the users that the model was trained on."""
        return self._state.histories.users

    @property
    def seen(self) -> Interactions:
        """Their interactions."""
        return self._state.histories.seen

    @property
    def disliked(self) -> NegativeSignals:
        """Their negative signals."""
        return self._state.histories.disliked

    @property
    def items(self) -> Vocabulary:
        """The ids of all items that can be recommended."""
        return self._state.catalog.ids

    @property
    def catalog(self) -> CatalogView:
        """The items by the rows of the scorer."""
        return self._state.catalog

    def recommend(
        self,
        users: Iterable[object],
        k: int = 10,
        *,
        exclude_seen: bool = True,
        only: Iterable[object] | None = None,
        where: Sequence[str | Filter] = (),
    ) -> dict[str, list[Recommendation]]:
        """The `k` best items for each user, best first; of equal scores, the first item of the catalog is first.

        A `k` above the catalog is the catalog, here and in the other lists. `exclude_seen` leaves out the user's
        interactions and negative signals.

        With `only`, no other items than these are recommended; with `where`, those that pass all of these filters on
        the catalog's columns: `where=["category=shoes", "price<=50"]` (`serving.catalog_filters`).

        Raises:
            DataError: a user, or an item of `only`, is unknown, or no item passes the filters.
            ConfigError: a filter is wrong.
        """
        ids, state = [str(user) for user in users], self._state
        candidates = state.catalog.candidates(only, where)
        best = self._asked(state, ids, exclude_seen=exclude_seen).best(state, k, candidates)
        lists = zip(ids, best.items.tolist(), best.scores.tolist(), strict=True)
        return {user: state.recommendations(items, scores) for user, items, scores in lists}

    def recommend_in_ranges(
        self,
        users: Iterable[object],
        k: int,
        ranges: Sequence[ItemRange],
        pool: Pool,
        *,
        exclude_seen: bool = True,
        only: Iterable[object] | None = None,
        where: Sequence[str | Filter] = (),
    ) -> Iterator[dict[str, list[Recommendation]]]:
        """The lists of `recommend` in blocks of users, by a pool whose workers rank ranges of the items.

        Raises:
            DataError, ConfigError: as `recommend`; and where the model has no vectors of items.
        """
        ids, state = [str(user) for user in users], self._state
        asked = self._asked(state, ids, exclude_seen=exclude_seen)
        blocks = best_in_ranges(asked, state.catalog.candidates(only, where), min(k, len(state.catalog)), ranges, pool)
        named = iter(ids)
        for best in blocks:
            lists = zip(best.items.tolist(), best.scores.tolist(), strict=True)
            yield {next(named): state.recommendations(items, scores) for items, scores in lists}

    def recommend_by_rules(
        self,
        users: Iterable[object],
        k: int,
        rules: RuleSet,
        *,
        exclude_seen: bool = True,
        only: Iterable[object] | None = None,
    ) -> dict[str, RuledList]:
        """The `k` best items for each user by a rule set, with what its rules changed (`serving.rule_ranking`).

        `exclude_seen` and `only` are as in `recommend`.

        Raises:
            DataError: a user, or an item of `only`, is unknown.
            ConfigError: the rules do not fit the bundle.
        """
        ids, state = [str(user) for user in users], self._state
        asked = self._asked(state, ids, exclude_seen=exclude_seen)
        return dict(zip(ids, ruled_lists(state, asked, k, rules, state.catalog.candidates(only)), strict=True))

    def recommend_for_by_rules(
        self, history: Iterable[object], k: int, rules: RuleSet, *, only: Iterable[object] | None = None
    ) -> RuledList:
        """The `k` best items for an unknown user with this history by a rule set, as in `recommend_by_rules`.

        Raises:
            DataError: an item is unknown, or the history is empty.
            ConfigError: the rules do not fit the bundle.
        """
        state = self._state
        asked = asked_history(state, self._history_rows(state, history), [])
        return ruled_lists(state, asked, k, rules, state.catalog.candidates(only))[0]

    def check_rules(self, rules: RuleSet) -> int:
        """The number of items that a rule set leaves.

        Raises:
            ConfigError: the rules do not fit the bundle: a column is missing.
        """
        return check_rules(self._state, rules)

    def _asked(self, state: BundleState, ids: Sequence[str], *, exclude_seen: bool = True) -> AskedUsers:
        return asked_users(state, ids, {id_: self._posted.of(id_) for id_ in ids}, exclude_seen=exclude_seen)

    def recommend_for(
        self,
        history: Iterable[object],
        k: int = 10,
        *,
        exclude: Iterable[object] = (),
        only: Iterable[object] | None = None,
        where: Sequence[str | Filter] = (),
    ) -> list[Recommendation]:
        """The `k` best items for an unknown user with this history, without these items and those of `exclude`.

        The user's vector comes from `coldstart.user_fold_in`, or from a model of sequences, for which the history is in
        the order of time, the latest item last; `only` and `where` are as in `recommend`.

        Raises:
            DataError: an item is unknown, the history is empty, or no item passes the filters.
        """
        state = self._state
        asked = asked_history(state, self._history_rows(state, history), [state.catalog.rows(exclude)])
        best = asked.best(state, k, state.catalog.candidates(only, where))
        return state.recommendations(best.items[0].tolist(), best.scores[0].tolist())

    def _history_rows(self, state: BundleState, history: Iterable[object]) -> np.ndarray:
        rows = state.catalog.rows(history)
        if not len(rows):
            raise DataError("the history is empty: give at least one item")
        return rows

    def similar(self, items: Iterable[object], k: int = 10) -> dict[str, list[Recommendation]]:
        """The `k` items whose vectors (or common users) are nearest to each given one, by cosine.

        With a model without vectors, the similarity of an added item is that by content; its place is that of this
        similarity times the factor by which the item's scores are calibrated.

        Raises:
            DataError: an item is unknown, or the model has no similarity of items.
        """
        ids, state = [str(item) for item in items], self._state
        rows = state.catalog.rows(ids)
        similarity = state.similarity(rows).masked_fill(~state.catalog.present, -torch.inf)
        similarity[torch.arange(len(rows)), torch.from_numpy(rows)] = -torch.inf
        top = similarity.topk(min(k, len(state.catalog)), dim=1)
        scale = self.content_to_vectors.scale if self.content_to_vectors else 1.0
        values = without_scale(state.scorer, top.values, torch.from_numpy(rows), top.indices, scale)
        lists = zip(ids, top.indices.tolist(), values.tolist(), strict=True)
        return {item: state.recommendations(nearest, scores) for item, nearest, scores in lists}

    def search(
        self,
        text: str | None = None,
        image: ItemImage | bytes | None = None,
        k: int = 10,
        for_user: object | None = None,
    ) -> list[Recommendation]:
        """The `k` items most relevant to a text, an image, or both; with `for_user` re-ranked by the user's scores.

        Raises:
            LMM4RecError: the bundle's encoder gives no vector for such a query.
            ImageError: the image cannot be read.
            DataError: the user is unknown, or the query is empty.
        """
        state, encoder = self._state, self._open_encoder()
        query = search.query(encoder, text, as_image(image))
        relevance = search.relevance(query, state.unit_features, joint=encoder.joint)
        relevance = relevance.masked_fill(~state.catalog.present, -torch.inf)
        if for_user is not None:
            asked = self._asked(state, [str(for_user)])
            scores = asked.scorer.scores(torch.from_numpy(asked.rows))[0]
            relevance = search.personal_relevance(relevance, scores, min(k, len(relevance)))
        top = relevance.topk(min(k, len(relevance)))
        return state.recommendations(top.indices.tolist(), top.values.tolist())

    def history_length(self, user: str) -> int:
        """The number of items of a user; 0 for an unknown one."""
        state, posted = self._state, self._posted.of(user)
        if not posted:
            return state.histories.length(user)
        return len(user_history(state, user, posted).items) if self.has_user(user) else 0

    def has_user(self, user: object) -> bool:
        """Whether there are recommendations for a user: from the training, or from added interactions."""
        id_, catalog = str(user), self._state.catalog
        if id_ in self.users:
            return True
        return any(catalog.has(one.item) and not is_negative(one.kind) for one in self._posted.of(id_))

    def all_users(self) -> list[str]:
        """The ids of the users of the training, then of those who came with added interactions."""
        known = self.users
        return [*known, *(user for user in self._posted.users() if user not in known and self.has_user(user))]

    def explain(self, user: object, item: object) -> Explanation:
        """The explanation of an item's score for a user: its parts, and the most similar items of the user's history.

        Raises:
            DataError: the user or the item is unknown.
        """
        state, id_ = self._state, str(user)
        posted = {id_: self._posted.of(id_)}
        asked, history = asked_users(state, [id_], posted, exclude_seen=False), user_history(state, id_, posted[id_])
        row, items = int(asked.rows[0]), history.items
        return explain(state, asked.scorer, row, state.catalog.row(item), items, self.lost, self.content_to_vectors)

    def history(self, user: object) -> list[HistoryItem]:
        """The items of a user, the latest first where the log has times.

        Raises:
            DataError: the user is unknown.
        """
        state, id_ = self._state, str(user)
        return history_items(state, id_, self._posted.of(id_))

    def title(self, item: object) -> str:
        """The item's title."""
        catalog = self._state.catalog
        return catalog.title(catalog.row(item))

    def fields(self, item: object) -> dict[str, str]:
        """The item's texts by column."""
        catalog = self._state.catalog
        return dict(catalog.entry(catalog.row(item)).fields)

    def table(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        """A row for each item: its id as "item", and these columns of the catalog (None: all).

        Raises:
            ConfigError: the catalog has no such column; the message names those there are.
        """
        return self._state.catalog.table(columns)

    def thumbnail(self, item: object) -> bytes | None:
        """A small WebP image of the item; None for an item without one."""
        catalog = self._state.catalog
        return catalog.entry(catalog.row(item)).thumbnail

    def _open_encoder(self) -> ContentEncoder:
        """The bundle's encoder, loaded at the first call."""
        if self.encoder is None:
            raise LMM4RecError(
                "this bundle has no encoder, so it can neither search nor encode new items: give its run an [encoder] "
                "table (not 'precomputed'), or give new items their features"
            )
        with self._loading:
            if self._opened is None:
                self._opened = ContentEncoder.open(self.encoder, self._state.catalog, self._state.features)
            return self._opened
