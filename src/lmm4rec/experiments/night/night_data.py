"""Data of a night: the conf's source with what was posted to the service, beside what yesterday's bundle knew."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Bool, Float64, Int64

from lmm4rec.core.errors import DataError
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.filters import prepare
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.negative_signals import NEGATIVE_KINDS, NegativeSignals
from lmm4rec.data.splits import TEST, TRAIN, VALID
from lmm4rec.experiments.night.added_to_catalog import read_added, with_added
from lmm4rec.experiments.night.live_folder import LiveFolder
from lmm4rec.experiments.plan import Plan
from lmm4rec.serving.added_items import AddedItem
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.feedback import FeedbackStore, read_feedback

_GONE = 0.5  # the share of yesterday's rows that may be gone
_VALID = 0.5  # the newest interactions that choose the epochs, as a share of the measured ones


@dataclass(frozen=True)
class Posted:
    """The number of interactions that were posted to the service, and what became of them."""

    posted: int = 0
    of_added_items: int = 0  # of items that the source lacks and that were added to the service
    unknown_items: int = 0  # of items that neither has: left out


@dataclass(frozen=True)
class NightData:
    """The data of a night."""

    dataset: Dataset
    posted: Posted
    erased: int = 0  # interactions and signals, of the source too, of users who were erased
    added: tuple[AddedItem, ...] = ()  # the last items of the catalog: the source lacks them, the service has them
    left_out: Mapping[str, int] = field(default_factory=dict)  # posted interactions by unknown item, most first

    @property
    def source_catalog(self) -> Catalog:
        """The catalog without the added items."""
        catalog = self.dataset.catalog
        return catalog.select(np.arange(len(catalog) - len(self.added))) if self.added else catalog


def read_data(plan: Plan, live: LiveFolder) -> NightData:
    """The plan's data set with what was posted to a live folder's service, filtered; without erased users.

    An item that was added to the service and that the source lacks is one of the catalog where a user has a positive
    interaction with it; another one stays with the service. With features from files it has none.

    Raises:
        DataError: the source cannot be read, or nothing is left.
    """
    data = plan.data
    dataset = data.source(**data.arguments(data.source))
    posted = read_feedback(live.interactions)
    positive = posted.filter(~pl.col("kind").is_in(NEGATIVE_KINDS))
    lacking = {item for item in positive["item"] if item not in dataset.items}
    has_files = plan.encoder is not None and plan.encoder.is_precomputed
    added = [] if has_files else read_added(live.added_items, lacking)
    n_source, dataset = dataset.n_items, replace(dataset, catalog=with_added(dataset.catalog, added))
    rows = np.array([dataset.items.row(item) if item in dataset.items else -1 for item in posted["item"]], np.int64)
    known, unknown = posted.filter(rows >= 0), posted.filter(rows < 0)
    erased = 0
    if live.interactions.is_file():
        dataset, erased = _without_erased(dataset, live.interactions)
    dataset = prepare(with_posted(dataset, known), **data.arguments(prepare))
    counts = Posted(posted.height, int((rows >= n_source).sum()), unknown.height)
    kept = tuple(item for item in added if item.id in dataset.items)
    return NightData(dataset, counts, erased, kept, dict(Counter(unknown["item"].to_list()).most_common()))


def with_posted(dataset: Dataset, posted: pl.DataFrame) -> Dataset:
    """The data set and the posted interactions: user, item (all of the catalog), timestamp, kind.

    A column that the log lacks stays missing; a posted interaction has the log's highest rating, and the weight 1.
    """
    if not posted.height:
        return dataset
    negative = posted["kind"].is_in(NEGATIVE_KINDS)
    positives, signals = posted.filter(~negative), posted.filter(negative)
    new = [user for user in positives["user"].unique(maintain_order=True) if user not in dataset.users]
    users = Vocabulary([*dataset.users, *new], kind="user")
    signals = signals.filter([user in users for user in signals["user"]])  # others have no positive interaction
    log, n = dataset.interactions, positives.height
    rows, times = _rows(positives, users, dataset.items), positives["timestamp"].to_numpy()
    joined = Interactions(
        np.concatenate([log.users, rows[0]]),
        np.concatenate([log.items, rows[1]]),
        None if log.ratings is None else np.append(log.ratings, np.full(n, log.ratings.max(), np.float32)),
        None if log.timestamps is None else np.append(log.timestamps, times),
        None if log.labels is None else np.append(log.labels, np.full(n, TRAIN, np.int8)),
        None if log.weights is None else np.append(log.weights, np.ones(n, np.float32)),
    )
    kinds = signals["kind"].unique(maintain_order=True).to_list()
    disliked = NegativeSignals(
        *_rows(signals, users, dataset.items),
        np.array([kinds.index(kind) for kind in signals["kind"]], np.int8),
        tuple(kinds),
        signals["timestamp"].to_numpy(),
    )
    return replace(dataset, users=users, interactions=joined, negatives=dataset.negatives.joined(disliked))


def _rows(frame: pl.DataFrame, users: Vocabulary, items: Vocabulary) -> tuple[np.ndarray, np.ndarray]:
    return users.rows(frame["user"]).astype(np.int32), items.rows(frame["item"]).astype(np.int32)


def _without_erased(dataset: Dataset, file: Path) -> tuple[Dataset, int]:
    """The data set without what erased users did up to their erasure, and the number of rows that this removes."""
    store = FeedbackStore(file)
    try:
        erased = store.erased(dataset.users)
    finally:
        store.close()
    if not erased:
        return dataset, 0
    until = np.full(dataset.n_users, -np.inf)
    until[dataset.users.rows(erased)] = list(erased.values())
    kept = [is_later(log, until) for log in (dataset.interactions, dataset.negatives)]
    log, signals = dataset.interactions.take(kept[0]), dataset.negatives.take(kept[1])
    active = log.user_counts(dataset.n_users) > 0
    left = replace(dataset, interactions=log, negatives=signals)
    return left.keep(active, np.ones(dataset.n_items, dtype=bool)), sum(int((~mask).sum()) for mask in kept)


def is_later(log: Interactions | NegativeSignals, until: Float64[np.ndarray, " users"]) -> Bool[np.ndarray, " n"]:
    """Whether each entry is later than the time of its user; of a log without times, whether the user has none."""
    limits = until[log.users]
    later: Bool[np.ndarray, " n"] = np.isneginf(limits) if log.timestamps is None else log.timestamps > limits
    return later


@dataclass(frozen=True)
class Changes:
    """What differs between yesterday's bundle and today's data."""

    rows: dict[str, dict[str, int]]  # "users", "items", "interactions" -> "kept", "new", "gone"
    new: Bool[np.ndarray, " n"]  # whether each interaction is one of a user and an item that yesterday's did not have
    lost_columns: Sequence[str]

    @classmethod
    def since(cls, yesterday: Bundle, today: Dataset) -> Changes:
        """The changes since yesterday's bundle."""
        users, items = _moved(yesterday.users, today.users), _moved(yesterday.items, today.items)
        catalog = yesterday.catalog
        item_of_row = np.full(len(catalog), -1, np.int64)
        item_of_row[catalog.rows(yesterday.items)] = items
        seen = yesterday.seen
        at = users[seen.users], item_of_row[seen.items]
        there = (at[0] >= 0) & (at[1] >= 0)
        known = np.unique(at[0][there] * today.n_items + at[1][there])
        pairs = today.interactions.pairs(today.n_items)
        new = ~np.isin(pairs, known)
        before = len(np.unique(seen.pairs(len(catalog))))
        kept = len(np.intersect1d(known, pairs))
        return cls(
            {
                "users": _counts(users, today.n_users),
                "items": _counts(items, today.n_items),
                "interactions": {"kept": kept, "new": int(new.sum()), "gone": before - kept},
            },
            new,
            _lost_columns(yesterday, today),
        )

    def require_sound(self) -> None:
        """Refuse data that lost columns, or most of yesterday's users, items or interactions.

        Raises:
            DataError: it says what is gone.
        """
        problems = [f"{name} are gone" for name in self.lost_columns]
        for name, counts in self.rows.items():
            before = counts["kept"] + counts["gone"]
            if counts["gone"] > _GONE * before:
                problems.append(f"{counts['gone']:,} of {before:,} {name} are gone")
        if problems:
            raise DataError(
                f"the data has changed since yesterday's bundle: {'; '.join(problems)}. If that is meant, add --force"
            )


def _moved(before: Vocabulary, now: Vocabulary) -> Int64[np.ndarray, " before"]:
    """The row that each id has now; -1 where it is gone."""
    return np.array([now.row(id_) if id_ in now else -1 for id_ in before], dtype=np.int64)


def _counts(moved: Int64[np.ndarray, " before"], now: int) -> dict[str, int]:
    kept = int((moved >= 0).sum())
    return {"kept": kept, "new": now - kept, "gone": len(moved) - kept}


def _lost_columns(yesterday: Bundle, today: Dataset) -> list[str]:
    """The columns of the catalog, the timestamps and the negative signals that yesterday's data had."""
    catalog = yesterday.catalog
    before, now = [*catalog.fields.columns, *catalog.attributes.columns], today.catalog
    lost = [f"the items' column '{one}'" for one in before if one not in (*now.fields.columns, *now.attributes.columns)]
    if lost:  # all of them in one, so that the message reads
        lost = [" and ".join(lost)]
    if yesterday.seen.timestamps is not None and today.interactions.timestamps is None:
        lost.append("the timestamps of the interactions")
    if len(yesterday.disliked) and not len(today.negatives):
        lost.append("all negative signals")
    return lost


def labeled(dataset: Dataset, new: Bool[np.ndarray, " n"], measured: float) -> Dataset:
    """The data set with labels: of the new interactions the newest share is measured, and those before it validate.

    Of interactions of one time, such as those of a log with dates, it is drawn which are the newer ones. Without
    timestamps the order of the log is that of time.
    """
    log = dataset.interactions
    at = np.flatnonzero(new)
    times = np.arange(len(log)) if log.timestamps is None else log.timestamps
    order = at[np.lexsort((np.random.default_rng(0).random(len(at)), times[at]))]
    n_measured = max(1, round(measured * len(at)))
    n_held = min(len(at), n_measured + max(1, round(_VALID * n_measured)))
    labels = np.full(len(log), TRAIN, dtype=np.int8)
    labels[order[-n_held:]] = VALID
    labels[order[-n_measured:]] = TEST
    return replace(dataset, interactions=replace(log, labels=labels))


def pairs_with(label: int, dataset: Dataset) -> pl.DataFrame:
    """The interactions with a label: user and item by id."""
    log, labels = dataset.interactions, dataset.interactions.labels
    assert labels is not None
    chosen = log.take(labels == label)
    users, items = (pl.Series(list(ids), dtype=pl.String) for ids in (dataset.users, dataset.items))
    return pl.DataFrame({"user": users[chosen.users.tolist()], "item": items[chosen.items.tolist()]})
