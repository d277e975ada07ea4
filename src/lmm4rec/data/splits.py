"""Splits of a data set into training, validation and test parts; no pair of user and item is in two of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Int8, Int64
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, DataError, did_you_mean
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.types import Fraction, NonNegativeInt
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.findings import Finding, counted
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.negative_signals import NegativeSignals
from lmm4rec.data.training_signals import training_signals

TRAIN, VALID, TEST, SET_ASIDE = 0, 1, 2, -1

HeldOutPart: TypeAlias = Literal["valid", "test"]
PARTS: Sequence[HeldOutPart] = ("valid", "test")
Parts: TypeAlias = Int8[np.ndarray, " n"]  # the part of each interaction: TRAIN, VALID, TEST or SET_ASIDE


@dataclass(frozen=True)
class Split:
    """Three parts of a data set's interactions; every user of a held-out interaction has training interactions."""

    dataset: Dataset
    train: Interactions
    valid: Interactions
    test: Interactions
    method: str
    parameters: Mapping[str, float]
    findings: tuple[Finding, ...] = ()
    negatives: NegativeSignals = field(default_factory=NegativeSignals)  # those that may train

    def __repr__(self) -> str:
        sealed = isinstance(self.test, SealedPart)
        counts = (f"{len(getattr(self, part)):,} {part}" for part in ("train", "valid", "test"))
        return f"Split('{self.dataset.name}', {self.method}: {'test part sealed' if sealed else ', '.join(counts)})"

    def holds_out(self, part: HeldOutPart) -> bool:
        """Whether interactions are held out for a part: its share is above 0, or the file's own labels say which."""
        return self.method == "labels" or self.parameters[part] > 0

    @property
    def fingerprint(self) -> str:
        """A digest of the ids and of the parts."""
        parts = [part.fingerprint for part in (self.train, self.valid, self.test)]
        return fingerprint(self.dataset.users.fingerprint, self.dataset.items.fingerprint, parts)

    def without_test(self) -> Split:
        """The split for the choice of a model: its test part is sealed and missing in its data set's log."""
        known = Interactions(
            *(
                np.concatenate([getattr(part, column) for part in (self.train, self.valid)])
                for column in ("users", "items")
            )
        )
        dataset = replace(self.dataset, interactions=known, negatives=self.negatives)
        return replace(self, dataset=dataset, test=SealedPart())


def split(
    dataset: Dataset,
    method: str = "random",
    *,
    valid: Annotated[
        Fraction, Doc("Share for validation, of a user's interactions, of all, or of the items; 0: none.")
    ] = 0.1,
    test: Annotated[Fraction, Doc("Share for the test, measured in the same way; 0: none.")] = 0.1,
    seed: Annotated[NonNegativeInt, Doc("Seed of the random methods.")] = 0,
) -> Split:
    """The data set in three parts.

    Args:
        dataset: the data set to split.
        method: one of `METHODS`: "random" (each user's interactions at random), "user_time" (each user's latest are
            held out), "global_time" (all interactions after a point in time are held out), "leave_last_out" (each
            user's last one is for test, the one before for validation), "cold_items" (whole items are held out),
            "labels" (as the file says).

    Held-out interactions are set aside, and counted in a finding, where their user has none to train on or where the
    same pair of user and item is in an earlier part.

    Raises:
        ConfigError: the method is unknown, or the shares leave nothing to train on.
        DataError: the method needs timestamps or labels that the data lacks, or its training part is empty.
    """
    if method not in METHODS:
        raise ConfigError(f"unknown split '{method}'.{did_you_mean(method, METHODS)} There are: {', '.join(METHODS)}")
    if not (0 <= valid < 1 and 0 <= test < 1 and valid + test < 1):
        raise ConfigError(f"valid = {valid} and test = {test} must be 0 or more and leave something to train on")
    shares = _Shares(valid, test, np.random.default_rng(seed))
    parts = METHODS[method](dataset, shares)
    parts, findings = _without_leaks(dataset, parts)
    train, held_valid, held_test = (dataset.interactions.take(parts == part) for part in (TRAIN, VALID, TEST))
    if not len(train):
        raise DataError(f"the split '{method}' leaves no interaction of '{dataset.name}' to train on")
    for name, share, part, purpose in (
        ("validation", valid, held_valid, "validation: all epochs are trained, and none is chosen"),
        ("test", test, held_test, "the test: nothing is measured by it"),
    ):
        if share and not len(part):
            message = f"the {name} part is empty although it should have a share of {share:g}"
            findings = (*findings, Finding("empty-part", "warning", 0, message))
        if not share and method != "labels":
            findings = (*findings, Finding("no-part", "note", 0, f"no interaction is held out for {purpose}"))
    findings = (*findings, *_users_with_every_item(dataset, train))
    negatives, on_negatives = training_signals(dataset, method, train, held_out=parts != TRAIN)
    parameters = {"valid": valid, "test": test, "seed": seed}
    return Split(dataset, train, held_valid, held_test, method, parameters, (*findings, *on_negatives), negatives)


@dataclass(frozen=True)
class _Shares:
    valid: float
    test: float
    rng: np.random.Generator

    def counts(self, total: Int64[np.ndarray, " groups"]) -> tuple[np.ndarray, np.ndarray]:
        """The numbers for validation and test of each total; from three on at least one each, and one to train on."""
        least_valid = ((total >= 3) & (self.valid > 0)).astype(np.int64)
        least_test = ((total >= 3) & (self.test > 0)).astype(np.int64)
        test = np.clip(_round(total * self.test), least_test, np.maximum(total - 1 - least_valid, 0))
        valid = np.clip(_round(total * self.valid), least_valid, np.maximum(total - 1 - test, 0))
        return valid, test


def _round(values: np.ndarray) -> np.ndarray:
    return np.floor(values + 0.5).astype(np.int64)


def _random(dataset: Dataset, shares: _Shares) -> Parts:
    order = shares.rng.permutation(len(dataset.interactions))
    return _latest_of_each_user(dataset, order, *shares.counts(dataset.interactions.user_counts(dataset.n_users)))


def _user_time(dataset: Dataset, shares: _Shares) -> Parts:
    order = np.argsort(_timestamps(dataset, "user_time"), kind="stable")
    return _latest_of_each_user(dataset, order, *shares.counts(dataset.interactions.user_counts(dataset.n_users)))


def _leave_last_out(dataset: Dataset, shares: _Shares) -> Parts:
    order = np.argsort(_timestamps(dataset, "leave_last_out"), kind="stable")
    counts = dataset.interactions.user_counts(dataset.n_users)
    test = ((counts >= 2) & (shares.test > 0)).astype(np.int64)
    valid = ((counts - test >= 2) & (shares.valid > 0)).astype(np.int64)
    return _latest_of_each_user(dataset, order, valid, test)


def _global_time(dataset: Dataset, shares: _Shares) -> Parts:
    """Parts by time; interactions of the same time are in the same part."""
    times = _timestamps(dataset, "global_time")
    ordered = np.sort(times)
    n_test = math.floor(len(times) * shares.test + 0.5)
    n_held = n_test + math.floor(len(times) * shares.valid + 0.5)
    parts = np.full(len(times), TRAIN, dtype=np.int8)
    if n_held:
        parts[times >= ordered[-n_held]] = VALID
    if n_test:
        parts[times >= ordered[-n_test]] = TEST
    return parts


def _cold_items(dataset: Dataset, shares: _Shares) -> Parts:
    candidates = np.flatnonzero(dataset.interactions.item_counts(dataset.n_items))
    valid, test = (int(counts[0]) for counts in shares.counts(np.array([len(candidates)])))
    drawn = shares.rng.permutation(candidates)
    part_of_item = np.full(dataset.n_items, TRAIN, dtype=np.int8)
    part_of_item[drawn[:test]] = TEST
    part_of_item[drawn[test : test + valid]] = VALID
    return part_of_item[dataset.interactions.items]


def _labels(dataset: Dataset, shares: _Shares) -> Parts:
    labels = dataset.interactions.labels
    if labels is None:
        raise DataError(f"the split 'labels' needs the file's own labels, which '{dataset.name}' doesn't have")
    if not np.isin(labels, (TRAIN, VALID, TEST)).all():
        raise DataError(f"the labels of '{dataset.name}' must be 0 (train), 1 (validation) or 2 (test)")
    return labels.copy()


METHODS: Mapping[str, Callable[[Dataset, _Shares], Parts]] = {
    "random": _random,
    "user_time": _user_time,
    "global_time": _global_time,
    "leave_last_out": _leave_last_out,
    "cold_items": _cold_items,
    "labels": _labels,
}
"""The methods by name: each gives the part of every interaction."""


def _timestamps(dataset: Dataset, method: str) -> Int64[np.ndarray, " n"]:
    if dataset.interactions.timestamps is None:
        raise DataError(
            f"the split '{method}' needs timestamps, which '{dataset.name}' doesn't have; a table's column of them is "
            'named in data.timestamp_column, and split.method = "random" needs none'
        )
    return dataset.interactions.timestamps


def _latest_of_each_user(
    dataset: Dataset,
    order: Int64[np.ndarray, " n"],
    valid: Int64[np.ndarray, " users"],
    test: Int64[np.ndarray, " users"],
) -> Parts:
    """Each user's last `test` interactions in the given order for test, the `valid` before them for validation."""
    users = dataset.interactions.users
    order = order[np.argsort(users[order], kind="stable")]
    counts = dataset.interactions.user_counts(dataset.n_users)
    ends = np.cumsum(counts)
    users = users[order]
    from_the_end = ends[users] - np.arange(len(users))  # 1 for a user's last
    parts = np.full(len(users), TRAIN, dtype=np.int8)
    parts[order[from_the_end <= (valid + test)[users]]] = VALID
    parts[order[from_the_end <= test[users]]] = TEST
    return parts


def _without_leaks(dataset: Dataset, parts: Parts) -> tuple[Parts, tuple[Finding, ...]]:
    """The parts without held-out pairs that are in an earlier part too (leaks), and without untrained users."""
    log = dataset.interactions
    parts = parts.copy()
    findings = []

    def set_aside(chosen: Bool[np.ndarray, " n"], kind: str, why: str) -> None:
        at = np.flatnonzero(chosen)
        if not len(at):
            return
        parts[at] = SET_ASIDE
        examples = tuple(f"user {dataset.users[log.users[i]]}, item {dataset.items[log.items[i]]}" for i in at[:10])
        message = f"{counted(len(at), 'held-out interaction')} set aside: {why}"
        findings.append(Finding(kind, "warning", len(at), message, examples))

    set_aside(_repeated(dataset, parts), "pair-in-two-parts", "the same user and item are in an earlier part")
    trained = np.zeros(dataset.n_users, dtype=bool)
    trained[log.users[parts == TRAIN]] = True
    set_aside((parts > TRAIN) & ~trained[log.users], "untrained-user", "their user has no interaction to train on")
    return parts, tuple(findings)


def _users_with_every_item(dataset: Dataset, train: Interactions) -> tuple[Finding, ...]:
    """A finding on users with all items in training: there is no negative for them and nothing to recommend."""
    counts = train.user_counts(dataset.n_users)
    candidates = np.flatnonzero(counts >= dataset.n_items)  # repeated interactions count once
    chosen = train.take(np.isin(train.users, candidates))
    users, distinct = np.unique(np.unique(chosen.pairs(dataset.n_items)) // dataset.n_items, return_counts=True)
    full = users[distinct == dataset.n_items].tolist()
    if not full:
        return ()
    message = (
        f"{counted(len(full), 'user')} with all {counted(dataset.n_items, 'item')} in training: no item is left to "
        "rank below those, so triples leave them out, and they get no recommendations"
    )
    return (Finding("user-with-every-item", "warning", len(full), message,
                    tuple(f"user {dataset.users[user]}" for user in full[:10])),)  # fmt: skip


def _repeated(dataset: Dataset, parts: Parts) -> Bool[np.ndarray, " n"]:
    """A mask of the held-out interactions whose pair is in an earlier part."""
    log = dataset.interactions
    at = log.repeated(dataset.n_items)
    pairs, here = log.pairs(dataset.n_items)[at], parts[at]
    repeated = np.zeros(len(log), dtype=bool)
    for part, earlier in ((VALID, here == TRAIN), (TEST, (here == TRAIN) | (here == VALID))):
        repeated[at] |= (here == part) & np.isin(pairs, pairs[earlier])
    return repeated


class SealedPart(Interactions):
    """A placeholder of the test part that holds none of it; any access raises DataError."""

    def __init__(self) -> None:
        """It has no columns."""

    def __getattribute__(self, name: str) -> Any:
        raise _sealed_error()

    def __len__(self) -> int:
        raise _sealed_error()

    def __repr__(self) -> str:
        return "SealedPart()"


def _sealed_error() -> DataError:
    return DataError(
        "the test part is sealed: a model, an epoch or a setting is chosen by the validation part; "
        "a run reads the test part once, after the choice"
    )
