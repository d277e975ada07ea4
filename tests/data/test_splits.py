"""No split leaks, loses or repeats itself differently."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.splits import METHODS, Split, split


def dataset(users, items, *, timestamps=None, labels=None) -> Dataset:
    """Interactions whose rating is their place in the log, so that parts can be traced back."""
    users, items = np.array(users, dtype=np.int32), np.array(items, dtype=np.int32)
    n_users, n_items = int(users.max()) + 1, int(items.max()) + 1
    return Dataset(
        "hand",
        Vocabulary(range(n_users), kind="user"),
        Catalog(Vocabulary(range(n_items)), pl.DataFrame(), (None,) * n_items, np.arange(n_items), n_items),
        Interactions(
            users,
            items,
            np.arange(len(users), dtype=np.float32),
            None if timestamps is None else np.array(timestamps, dtype=np.int64),
            None if labels is None else np.array(labels, dtype=np.int8),
        ),
    )


def places(part: Interactions) -> list[int]:
    return part.ratings.astype(int).tolist()


def drawn(seed: int, *, size: int = 400, n_users: int = 40, n_items: int = 60) -> Dataset:
    rng = np.random.default_rng(seed)
    return dataset(
        rng.integers(0, n_users, size),
        rng.integers(0, n_items, size),
        timestamps=rng.integers(0, 50, size),
        labels=rng.integers(0, 3, size),
    )


def check_no_leak(data: Dataset, parts: Split) -> None:
    held = [places(part) for part in (parts.train, parts.valid, parts.test)]
    everywhere = [place for part in held for place in part]
    assert len(everywhere) == len(set(everywhere)), "an interaction in two parts"
    aside = sum(finding.count for finding in parts.findings if finding.kind in ("pair-in-two-parts", "untrained-user"))
    assert len(everywhere) + aside == len(data.interactions), "an interaction lost in silence"
    pairs = [
        set(zip(part.users.tolist(), part.items.tolist(), strict=True))
        for part in (parts.train, parts.valid, parts.test)
    ]
    assert not pairs[0] & pairs[1]
    assert not (pairs[0] | pairs[1]) & pairs[2]
    trained = set(parts.train.users.tolist())
    assert set(parts.valid.users.tolist()) | set(parts.test.users.tolist()) <= trained


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    method=st.sampled_from(sorted(METHODS)),
    size=st.integers(4, 300),
    valid=st.sampled_from([0.0, 0.1, 0.3]),
    test=st.sampled_from([0.0, 0.1, 0.5]),
)
def test_no_split_leaks(seed: int, method: str, size: int, valid: float, test: float) -> None:
    data = drawn(seed, size=size)
    with suppress(DataError):  # a log so small that nothing is left to train on
        check_no_leak(data, split(data, method, valid=valid, test=test, seed=seed))


@pytest.mark.parametrize("method", sorted(METHODS))
def test_same_seed_same_split(method: str) -> None:
    data = drawn(1)
    first, again, other = (split(data, method, seed=seed) for seed in (3, 3, 4))
    assert first.fingerprint == again.fingerprint
    assert (first.fingerprint != other.fingerprint) == (method in ("random", "cold_items"))
    assert first.parameters == {"valid": 0.1, "test": 0.1, "seed": 3}


def test_random_takes_each_users_share() -> None:
    counts = [1, 2, 3, 4, 10, 20]
    users = np.repeat(np.arange(len(counts)), counts)
    items = np.concatenate([np.arange(count) for count in counts])
    parts = split(dataset(users, items), "random", valid=0.1, test=0.2)
    assert parts.test.user_counts(6).tolist() == [0, 0, 1, 1, 2, 4]
    assert parts.valid.user_counts(6).tolist() == [0, 0, 1, 1, 1, 2]
    greedy = split(dataset(users, items), "random", valid=0.09, test=0.9)
    assert greedy.train.user_counts(6).min() == 1
    assert greedy.valid.user_counts(6).tolist()[2:] == [1, 1, 1, 1]
    nothing = split(dataset(users, items), "random", valid=0.0, test=0.0)
    assert len(nothing.train) == len(users)


def test_random_is_uniform_over_a_users_interactions() -> None:
    users, within = np.repeat(np.arange(500), 10), np.tile(np.arange(10), 500)
    held = split(dataset(users, within), "random").test
    assert len(held) == 500
    assert np.abs(np.bincount(held.items, minlength=10) - 50).max() < 35  # five standard deviations


def test_user_time_holds_out_the_latest() -> None:
    users = [0, 1, 0, 1, 0, 1, 0, 1]
    times = [4, 1, 3, 1, 2, 1, 1, 1]  # user 0 backwards; user 1 all at once, so by place in the file
    parts = split(dataset(users, range(8), timestamps=times), "user_time", valid=0.25, test=0.25)
    assert places(parts.test) == [0, 7]
    assert places(parts.valid) == [2, 5]


def test_leave_last_out() -> None:
    users = [0, 0, 0, 0, 1, 1, 2]
    parts = split(dataset(users, range(7), timestamps=[1, 4, 3, 2, 5, 6, 7]), "leave_last_out")
    assert (places(parts.test), places(parts.valid)) == ([1, 5], [2])
    assert places(parts.train) == [0, 3, 4, 6]


def test_global_time_never_cuts_inside_a_moment() -> None:
    times = [0, 1, 2, 3, 4, 5, 6, 7, 7, 7]
    parts = split(dataset([0] * 10, range(10), timestamps=times), "global_time", valid=0.2, test=0.1)
    assert places(parts.test) == [7, 8, 9]
    assert parts.train.timestamps.max() < parts.test.timestamps.min()
    assert len(parts.valid) == 0
    assert [finding.kind for finding in parts.findings] == ["empty-part"]


@pytest.mark.parametrize("seed", range(5))
def test_global_time_is_in_order(seed: int) -> None:
    parts = split(drawn(seed), "global_time", valid=0.2, test=0.2)
    assert parts.train.timestamps.max() < parts.valid.timestamps.min()
    assert parts.valid.timestamps.max() < parts.test.timestamps.min()


@pytest.mark.parametrize("seed", range(5))
def test_cold_items_are_whole(seed: int) -> None:
    parts = split(drawn(seed), "cold_items", valid=0.1, test=0.2, seed=seed)
    trained, valid, test = (set(part.items.tolist()) for part in (parts.train, parts.valid, parts.test))
    assert not trained & valid
    assert not trained & test
    assert not valid & test
    assert (len(valid), len(test)) == (6, 12)


def test_untrained_users_are_counted() -> None:
    parts = split(dataset([0, 0, 1], [0, 1, 2], labels=[0, 1, 2]), "labels")
    assert (places(parts.train), places(parts.valid), places(parts.test)) == ([0], [1], [])
    assert (parts.findings[0].kind, parts.findings[0].count) == ("untrained-user", 1)
    assert parts.findings[0].examples == ("user 1, item 2",)


def test_a_repeated_pair_stays_in_its_earliest_part() -> None:
    parts = split(dataset([0] * 6, [0, 0, 0, 1, 1, 2], labels=[0, 1, 2, 1, 2, 2]), "labels")
    assert (places(parts.train), places(parts.valid), places(parts.test)) == ([0], [3], [5])
    assert (parts.findings[0].kind, parts.findings[0].count) == ("pair-in-two-parts", 3)


def test_fingerprint_tells_parts_apart() -> None:
    swapped = [split(dataset([0] * 4, range(4), labels=labels), "labels") for labels in ([0, 0, 1, 2], [0, 0, 2, 1])]
    assert swapped[0].fingerprint != swapped[1].fingerprint


@pytest.mark.parametrize("method", ["user_time", "global_time", "leave_last_out"])
def test_times_are_needed(method: str) -> None:
    with pytest.raises(DataError, match="needs timestamps"):
        split(dataset([0, 0, 0], [0, 1, 2]), method)


def test_labels_are_needed_and_checked() -> None:
    with pytest.raises(DataError, match="needs the file's own labels"):
        split(dataset([0, 0, 0], [0, 1, 2]), "labels")
    with pytest.raises(DataError, match="0 \\(train\\)"):
        split(dataset([0, 0, 0], [0, 1, 2], labels=[0, 1, 3]), "labels")


def test_wrong_arguments() -> None:
    data = dataset([0, 0, 0], [0, 1, 2])
    with pytest.raises(ConfigError, match="Did you mean 'random'"):
        split(data, "randon")
    for valid, test in ((0.5, 0.5), (-0.1, 0.1), (0.1, 1.0)):
        with pytest.raises(ConfigError, match="leave something to train on"):
            split(data, "random", valid=valid, test=test)
    with pytest.raises(DataError, match="no interaction of 'hand' to train on"):
        split(dataset([0], [0], labels=[2]), "labels")


@pytest.mark.parametrize(("name", "sizes"), [("films", (72_124, 9_026, 9_026)), ("tiktok", (59_541, 3_051, 6_130))])
def test_given_splits(shared, name: str, sizes: tuple[int, int, int]) -> None:
    from lmm4rec.data.sources.mmrec import load

    data = load(path=shared / "data" / "mmrec" / name)
    assert np.bincount(data.interactions.labels).tolist() == list(sizes)
    parts = split(data, "labels")
    assert len(parts.train) == sizes[0]
    aside = sum(finding.count for finding in parts.findings)
    assert len(parts.valid) + len(parts.test) + aside == sizes[1] + sizes[2]
