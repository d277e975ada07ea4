"""From results to the report's view: the runs' numbers, and a few users with images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from lmm4rec.core.files import read_json
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.splits import Split
from lmm4rec.evaluation.ranking import top_k
from lmm4rec.experiments.report.view import Card, Person, ReportView, RunView
from lmm4rec.experiments.result import Result

_PEOPLE, _TOP, _HISTORY = 6, 10, 12


def report_view(
    results: Sequence[Result], labels: Sequence[str], split: Split, *, title: str, next_steps: Sequence[str] = ()
) -> ReportView:
    """The report on runs that share a split."""
    first = results[0]
    mmrec = first.plan.tables["evaluate"]["protocol"] == "mmrec"
    return ReportView(
        title=title,
        subtitle=_subtitle(split),
        facts=_facts(first, split),
        runs=[_run(result, label) for result, label in zip(results, labels, strict=True)],
        people=people(results, labels, split),
        findings=list(dict.fromkeys(found for result in results for found in result.metrics["data"]["findings"])),
        metric=first.metrics["chosen"]["metric"],
        next_steps=next_steps,
        masked="each user's training items (protocol mmrec)" if mmrec else "each user's training and validation items",
        hit_label="liked later"
        if split.method in ("user_time", "global_time", "leave_last_out")
        else "liked, held out",
    )


def _subtitle(split: Split) -> str:
    data = split.dataset
    return f"{data.n_users:,} users, {data.n_items:,} items, {len(data.interactions):,} likes of '{data.name}'"


def _facts(result: Result, split: Split) -> dict[str, str]:
    data, machine = result.metrics["data"], read_json(result.folder.environment)["machine"]
    parts = f"{data['train']:,} train, {data['valid']:,} validation, {data['test']:,} test"
    return {
        "data": data["name"],
        "users": f"{data['users']:,}",
        "items": f"{data['items']:,}",
        "interactions": f"{data['interactions']:,}",
        "split": f"{split.method}: {parts}",
        "split fingerprint": split.fingerprint[:12],
        "machine": f"{machine['processor']}, {machine['threads']} threads",
    }


def _run(result: Result, label: str) -> RunView:
    metrics, features = result.metrics, result.plan.tables.get("features")
    alignment = metrics.get("alignment", {})
    return RunView(
        label=label,
        recommender=result.plan.recommender,
        encoder=result.plan.encoder,
        paradigm=paradigm(features) if features else "",
        valid=metrics["valid"],
        test=metrics["test"],
        slices=metrics["slices"],
        beyond=metrics["beyond"],
        cost=metrics["cost"] | {"epochs": metrics["chosen"]["epochs"]},
        history=result.history,
        best_epoch=metrics["chosen"]["epoch"],
        seed=result.plan.tables["train"]["seed"],
        alignment=alignment.get("after", alignment),
        alignment_before=alignment.get("before", {}),
    )


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
