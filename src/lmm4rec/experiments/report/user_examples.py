"""From results to the report's view: the runs' numbers, and a few users with images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from lmm4rec.data.catalog import Catalog
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.splits import Split
from lmm4rec.evaluation.ranking import top_k
from lmm4rec.experiments.report.view import Card, Person
from lmm4rec.experiments.result import Result

_PEOPLE, _TOP, _HISTORY = 6, 10, 12


def paradigm(features: Mapping[str, Any]) -> str:
    """How the features came about, the adapter of an end-to-end training included."""
    adapter = features["adapter"] if features["train"] == "end2end" else "none"
    return str(features["train"] if adapter == "none" else f"{features['train']}, {adapter}")


def people(results: Sequence[Result], labels: Sequence[str], split: Split) -> list[Person]:
    """Users drawn at random among those with a history and something held out; all models are shown for the same."""
    counts = split.train.user_counts(split.dataset.n_users)
    able = np.intersect1d(np.flatnonzero(counts >= min(5, counts.max())), split.test.users)
    rows = np.random.default_rng(0).choice(able, min(_PEOPLE, len(able)), replace=False)
    lists = {
        label: top_k(result.bundle().scorer, rows, _TOP, exclude=[split.train, split.valid]).items
        for label, result in zip(labels, results, strict=True)
    }
    return [
        _person(split, int(row), {label: top[index].tolist() for label, top in lists.items()})
        for index, row in enumerate(rows)
    ]


def _person(split: Split, row: int, lists: dict[str, list[int]]) -> Person:
    catalog = split.dataset.catalog
    known = [_of(log, row) for log in (split.train, split.valid)]
    items, notes = _latest_first(known)
    held_out = set(_of(split.test, row).items.tolist())
    return Person(
        id=split.dataset.users[row],
        facts=f"{len(items)} items known, {len(held_out)} held out",
        history=[_card(catalog, item, note) for item, note in zip(items[:_HISTORY], notes, strict=False)],
        recommendations={
            label: [_card(catalog, item, hit=item in held_out) for item in top if item >= 0]
            for label, top in lists.items()
        },
        held_out=[_card(catalog, item) for item in sorted(held_out)],
    )


def _of(log: Interactions, user: int) -> Interactions:
    return log.take(np.flatnonzero(log.users == user))


def _latest_first(logs: Sequence[Interactions]) -> tuple[list[int], list[str]]:
    items = np.concatenate([log.items for log in logs])
    times = [log.timestamps for log in logs if log.timestamps is not None]
    if len(times) < len(logs):
        return items.tolist(), [""] * len(items)
    when = np.concatenate(times)
    order = np.argsort(-when, kind="stable")
    return items[order].tolist(), [f"{datetime.fromtimestamp(time, UTC):%b %Y}" for time in when[order].tolist()]


def _card(catalog: Catalog, row: int, note: str = "", *, hit: bool = False) -> Card:
    return Card(catalog.ids[row], catalog.title(row), catalog.images[row], note, hit)
