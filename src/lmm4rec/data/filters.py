"""Filters of a data set; each returns a new one whose findings state what was removed."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Bool, Int64
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.types import NonNegativeInt
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.findings import Finding, agreeing, counted
from lmm4rec.data.negative_signals import LOW_RATING, NegativeSignals

_COMPACT_DATE = re.compile(r"(19|20)\d{6}")


def prepare(
    dataset: Dataset,
    *,
    rating_at_least: Annotated[float | None, Doc("Lowest rating of a positive interaction.")] = None,
    since: Annotated[str | int | None, Doc("Keep interactions from this ISO time (UTC) or unix second on.")] = None,
    until: Annotated[str | int | None, Doc("Keep interactions before this moment.")] = None,
    duplicates: Annotated[Literal["last", "keep"], Doc("Of repeated interactions keep the last, or all.")] = "last",
    k_core: Annotated[NonNegativeInt, Doc("Keep users and items with at least this many interactions; 0: all.")] = 0,
) -> Dataset:
    """The data set after the filters, which are applied in the order of the arguments.

    Raises:
        DataError: a filter needs ratings or timestamps that the data lacks, or leaves nothing.
        ConfigError: `since` or `until` is not a date or time.
    """
    if rating_at_least is not None:
        dataset = keep_ratings(dataset, rating_at_least)
    if since is not None or until is not None:
        dataset = date_range(dataset, since, until)
    if duplicates == "last":
        dataset = remove_duplicates(dataset)
    dataset = _k_core(dataset, k_core, k_core) if k_core else dataset
    return dataset.with_findings(*dislikes(dataset))


def dislikes(dataset: Dataset) -> tuple[Finding, ...]:
    """A finding on interactions with a rating of 0 or below, which count as positive like all others."""
    ratings = dataset.interactions.ratings
    if ratings is None or not (ratings <= 0).any():
        return ()
    log, low, high = dataset.interactions, np.flatnonzero(ratings <= 0), ratings[ratings > 0]
    examples = tuple(f"user {dataset.users[log.users[at]]}, item {dataset.items[log.items[at]]}: {ratings[at]:g}"
                     for at in low[:10])  # fmt: skip
    message = f"{counted(len(low), 'interaction')} of {len(ratings):,} {agreeing(len(low), 'have')} a rating of 0 or "
    message += "below, yet all count as positive; " + (
        f"rating_at_least = {high.min():g} leaves them out" if len(high) else "rating_at_least can leave some out"
    )
    return (Finding("dislikes", "warning", len(low), message, examples),)


def keep_ratings(dataset: Dataset, at_least: float) -> Dataset:
    """The interactions with a rating of `at_least` or more; those below become negative signals.

    Raises:
        DataError: there are no ratings, or none is high enough.
    """
    ratings = dataset.interactions.ratings
    if ratings is None:
        raise DataError(f"rating_at_least = {at_least} needs ratings, which '{dataset.name}' doesn't have")
    low = dataset.interactions.take(ratings < at_least)
    signals = NegativeSignals(low.users, low.items, np.zeros(len(low), np.int8), (LOW_RATING,), low.timestamps)
    dataset = replace(dataset, negatives=dataset.negatives.joined(signals))
    return _keep(dataset, ratings >= at_least, "low-rating", f"rating below {at_least:g}")


def date_range(dataset: Dataset, since: str | int | None = None, until: str | int | None = None) -> Dataset:
    """The interactions and signals from `since` (included) to `until` (excluded): ISO dates or times, or unix seconds.

    Raises:
        DataError: there are no timestamps, or none is in the range.
        ConfigError: a bound is not a date or time.
    """
    times = dataset.interactions.timestamps
    if times is None:
        raise DataError(f"a date range needs timestamps, which '{dataset.name}' doesn't have")
    first = np.iinfo(np.int64).min if since is None else unix_seconds(since)
    end = None if until is None else unix_seconds(until)

    def inside(times: Int64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        return (times >= first) if end is None else (times >= first) & (times < end)

    signals = dataset.negatives
    if signals.timestamps is not None:
        dataset = replace(dataset, negatives=signals.take(inside(signals.timestamps)))
    why = f"not from {since or 'the start'} until {until or 'the end'}"
    return _keep(dataset, inside(times), "out-of-range", why)


def remove_duplicates(dataset: Dataset) -> Dataset:
    """One interaction for each pair of user and item: the last by time; of equal times the last in the file."""
    log = dataset.interactions
    repeated = log.repeated(dataset.n_items)
    if log.timestamps is not None:
        repeated = repeated[np.argsort(log.timestamps[repeated], kind="stable")]
    latest_first = repeated[::-1]
    _, kept = np.unique(log.pairs(dataset.n_items)[latest_first], return_index=True)
    chosen = np.ones(len(log), dtype=bool)
    chosen[repeated] = False
    chosen[latest_first[kept]] = True
    return _keep(dataset, chosen, "duplicate-interaction", "a later one of the same user with the same item is kept")


def k_core(dataset: Dataset, k_users: NonNegativeInt, k_items: NonNegativeInt) -> Dataset:
    """The largest part in which each user has at least `k_users` and each item at least `k_items` interactions.

    Raises:
        DataError: nothing is left.
    """
    log = dataset.interactions
    users, items = log.users, log.items
    while True:
        good_users = np.bincount(users, minlength=dataset.n_users) >= k_users
        good_items = np.bincount(items, minlength=dataset.n_items) >= k_items
        stay = good_users[users] & good_items[items]
        if stay.all():
            break
        users, items = users[stay], items[stay]
    if not len(users):
        raise _nothing_left(dataset, f"the {_core_name(k_users, k_items)}")
    kept = dataset.keep(good_users, good_items)
    lost_users, lost_items = dataset.n_users - kept.n_users, dataset.n_items - kept.n_items
    lost = len(log) - len(kept.interactions)
    if not (lost or lost_users or lost_items):
        return kept
    message = (
        f"the {_core_name(k_users, k_items)} removed {counted(lost_users, 'user')}, {counted(lost_items, 'item')} and "
        f"{counted(lost, 'interaction')}"
    )
    return kept.with_findings(Finding("k-core", "note", lost, message))


_k_core = k_core  # `prepare` has an argument of that name


def unix_seconds(time: str | int) -> int:
    """The unix time of an ISO date or time (in UTC unless it names another zone), or of a number of seconds.

    Eight digits such as 20200131 are a date; as seconds they would lie in 1970.

    Raises:
        ConfigError: it is neither.
    """
    if not _COMPACT_DATE.fullmatch(str(time)):
        with suppress(ValueError):
            return int(time)
    try:
        parsed = datetime.fromisoformat(str(time))
    except ValueError:
        raise ConfigError(
            f"'{time}' is not a date or time; expected one such as 2020-01-31, 2020-01-31T12:00 or 1580428800"
        ) from None
    return int((parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp())


def _keep(dataset: Dataset, chosen: Bool[np.ndarray, " n"], kind: str, why: str) -> Dataset:
    """The chosen interactions and the users that still have one; all items stay."""
    if chosen.all():
        return dataset
    if not chosen.any():
        raise _nothing_left(dataset, f"the filter '{kind}' ({why})")
    log = dataset.interactions
    removed = np.flatnonzero(~chosen)
    examples = tuple(f"user {dataset.users[log.users[at]]}, item {dataset.items[log.items[at]]}" for at in removed[:10])
    log = log.take(chosen)
    active = log.user_counts(dataset.n_users) > 0
    lost_users = int((~active).sum())
    also = f", and with them {counted(lost_users, 'user')}" if lost_users else ""
    message = f"{counted(len(removed), 'interaction')} removed{also}: {why}"
    everything = np.ones(dataset.n_items, dtype=bool)
    kept = replace(dataset, interactions=log).keep(active, everything)
    return kept.with_findings(Finding(kind, "note", len(removed), message, examples))


def _core_name(k_users: int, k_items: int) -> str:
    return f"{k_users}-core" if k_users == k_items else f"({k_users}, {k_items})-core"


def _nothing_left(dataset: Dataset, filter_: str) -> DataError:
    return DataError(
        f"nothing is left of '{dataset.name}' ({counted(len(dataset.interactions), 'interaction')}) after {filter_}"
    )
