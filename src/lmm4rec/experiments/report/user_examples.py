"""A few users as examples: their histories, what each model recommends to them, and their held-out items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from lmm4rec.core.types import ItemImage
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.splits import Split
from lmm4rec.evaluation.ranking import top_k
from lmm4rec.experiments.result import Result

_USERS, _TOP, _SHOWN = 6, 10, 12


@dataclass(frozen=True)
class ItemCard:
    """One item as a page shows it."""

    id: str
    title: str
    image: ItemImage | None
    note: str = ""
    hit: bool = False


@dataclass(frozen=True)
class UserExample:
    """One user: the items of the history, latest first, those that each run recommends, and those held out."""

    id: str
    facts: str
    history: Sequence[ItemCard]
    recommendations: dict[str, list[ItemCard]]  # the label of a run -> its best items, best first
    held_out: Sequence[ItemCard] = ()


def user_examples(results: Sequence[Result], labels: Sequence[str], split: Split) -> list[UserExample]:
    """Users with a history (and held-out items where there is a test), drawn at random; the same for all runs."""
    counts = split.train.user_counts(split.dataset.n_users)
    eligible = np.flatnonzero(counts >= min(5, counts.max()))
    if split.holds_out("test"):
        eligible = np.intersect1d(eligible, split.test.users)
    users = np.random.default_rng(0).choice(eligible, min(_USERS, len(eligible)), replace=False)
    tops = {
        label: top_k(result.bundle().scorer, users, _TOP, exclude=[split.train, split.valid]).items
        for label, result in zip(labels, results, strict=True)
    }
    return [
        _example(split, int(user), {label: top[i].tolist() for label, top in tops.items()})
        for i, user in enumerate(users)
    ]


def _example(split: Split, user: int, tops: dict[str, list[int]]) -> UserExample:
    catalog = split.dataset.catalog
    items, dates = _latest_first([_of_user(part, user) for part in (split.train, split.valid)])
    held_out = sorted(set(_of_user(split.test, user).items.tolist()))
    return UserExample(
        id=split.dataset.users[user],
        facts=f"{len(items)} known items, {len(held_out)} held out",
        history=[_card(catalog, *pair) for pair in zip(items[:_SHOWN], dates, strict=False)],
        recommendations={
            label: [_card(catalog, item, hit=item in held_out) for item in top if item >= 0]
            for label, top in tops.items()
        },
        held_out=[_card(catalog, item) for item in held_out[:_SHOWN]],
    )


def _of_user(interactions: Interactions, user: int) -> Interactions:
    return interactions.take(np.flatnonzero(interactions.users == user))


def _latest_first(parts: Sequence[Interactions]) -> tuple[list[int], list[str]]:
    """The items and the months of their interactions (empty where the data has no timestamps), the latest first."""
    items = np.concatenate([part.items for part in parts])
    times = [part.timestamps for part in parts if part.timestamps is not None]
    if len(times) < len(parts):
        return items.tolist(), [""] * len(items)
    seconds = np.concatenate(times)
    order = np.argsort(-seconds, kind="stable")
    return items[order].tolist(), [f"{datetime.fromtimestamp(time, UTC):%b %Y}" for time in seconds[order].tolist()]


def _card(catalog: Catalog, item: int, note: str = "", *, hit: bool = False) -> ItemCard:
    return ItemCard(catalog.ids[item], catalog.title(item), catalog.images[item], note, hit)
