"""Filters against brute force and by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import polars as pl
import pytest

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.filters import date_range, k_core, keep_ratings, prepare, remove_duplicates, unix_seconds
from lmm4rec.data.interactions import Interactions


def dataset(pairs: list[tuple[int, int]], *, ratings=None, timestamps=None, users: int = 0, items: int = 0) -> Dataset:
    rows = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    users, items = max(users, int(rows[:, 0].max()) + 1), max(items, int(rows[:, 1].max()) + 1)
    return Dataset(
        "hand",
        Vocabulary([f"u{row}" for row in range(users)], kind="user"),
        Catalog(
            Vocabulary([f"i{row}" for row in range(items)]), pl.DataFrame(), (None,) * items, np.arange(items), items
        ),
        Interactions(
            rows[:, 0].copy(),
            rows[:, 1].copy(),
            None if ratings is None else np.array(ratings, dtype=np.float32),
            None if timestamps is None else np.array(timestamps, dtype=np.int64),
        ),
    )


def named(data: Dataset) -> list[tuple[str, str]]:
    log = data.interactions
    return [(data.users[user], data.items[item]) for user, item in zip(log.users, log.items, strict=True)]


def brute_core(pairs: list[tuple[str, str]], k_users: int, k_items: int) -> list[tuple[str, str]]:
    while True:
        users, items = Counter(user for user, _ in pairs), Counter(item for _, item in pairs)
        left = [pair for pair in pairs if users[pair[0]] >= k_users and items[pair[1]] >= k_items]
        if len(left) == len(pairs):
            return left
        pairs = left


def test_a_chain_falls_item_by_item() -> None:
    square = [(0, 0), (0, 1), (1, 0), (1, 1)]
    data = dataset([*square, (2, 1), (2, 2), (3, 2)], items=4)  # i2 falls with u3, u2 with i2
    core = k_core(data, 2, 2)
    assert named(core) == [("u0", "i0"), ("u0", "i1"), ("u1", "i0"), ("u1", "i1")]
    assert (core.n_users, core.n_items) == (2, 2)
    assert core.findings[-1].message == "the 2-core removed 2 users, 2 items and 3 interactions"
    assert core.catalog.source_rows.tolist() == [0, 1]
    assert core.catalog.source_size == 4


@pytest.mark.parametrize("seed", range(12))
def test_core_equals_brute_force(seed: int) -> None:
    rng = np.random.default_rng(seed)
    k_users, k_items = (int(k) for k in rng.integers(0, 5, 2))
    pairs = list({(int(u), int(i)) for u, i in zip(*(rng.zipf(1.5, (2, 150)) % 30), strict=True)})
    data = dataset(pairs)
    expected = brute_core(named(data), k_users, k_items)
    if not expected:
        with pytest.raises(DataError, match="core"):
            k_core(data, k_users, k_items)
    else:
        assert named(k_core(data, k_users, k_items)) == expected


def test_zero_keeps_untouched_items_and_one_drops_them() -> None:
    data = dataset([(0, 0)], items=3)
    assert prepare(data).n_items == 3
    assert prepare(data, k_core=1).n_items == 1


def test_duplicates_keep_the_last_by_time_then_by_place() -> None:
    pairs = [(0, 0), (0, 1), (0, 0), (1, 0), (1, 0)]
    by_time = remove_duplicates(dataset(pairs, timestamps=[9, 1, 5, 7, 7], ratings=[1, 2, 3, 4, 5]))
    assert by_time.interactions.ratings.tolist() == [1, 2, 5]
    by_place = remove_duplicates(dataset(pairs, ratings=[1, 2, 3, 4, 5]))
    assert by_place.interactions.ratings.tolist() == [2, 3, 5]
    assert (by_place.findings[0].kind, by_place.findings[0].count) == ("duplicate-interaction", 2)
    assert "user u0, item i0" in by_place.findings[0].examples
    assert len(prepare(dataset(pairs), duplicates="keep").interactions) == 5


@pytest.mark.parametrize("seed", range(5))
def test_duplicates_against_a_dictionary(seed: int) -> None:
    rng = np.random.default_rng(seed)
    users, items, times = rng.integers(0, 8, (3, 200))
    data = dataset(list(zip(users.tolist(), items.tolist(), strict=True)), timestamps=times, ratings=np.arange(200))
    last: dict[tuple[int, int], tuple[int, int]] = {}
    for place, (user, item, time) in enumerate(zip(users, items, times, strict=True)):
        last[user, item] = max(last.get((user, item), (-1, -1)), (int(time), place))
    expected = sorted(place for _, place in last.values())
    assert remove_duplicates(data).interactions.ratings.tolist() == expected


def test_ratings_and_dates() -> None:
    data = dataset([(0, 0), (0, 1), (1, 0), (2, 2)], ratings=[4, 3.5, 5, 1], timestamps=[0, 86_399, 86_400, 172_800])
    kept = keep_ratings(data, 4.0)
    assert named(kept) == [("u0", "i0"), ("u1", "i0")]
    assert "2 interactions removed, and with them 1 user" in kept.findings[0].message
    assert kept.n_items == 3
    assert named(date_range(data, "1970-01-02", "1970-01-03")) == [("u1", "i0")]
    assert len(date_range(data, None, 86_400).interactions) == 2


def test_moments() -> None:
    expected = 1_580_428_800  # `date -u -d 2020-01-31 +%s`
    for moment in (
        "2020-01-31",
        "2020-01-31T00:00:00Z",
        "2020-01-31T01:00+01:00",
        "1580428800",
        1_580_428_800,
        "20200131",
        20200131,
    ):
        assert unix_seconds(moment) == expected
    with pytest.raises(ConfigError, match="'last summer' is not a date or time"):
        unix_seconds("last summer")


def test_prepare_applies_its_filters_in_the_order_of_its_arguments() -> None:
    data = dataset([(0, 0), (0, 0), (0, 1), (1, 0), (1, 1)], ratings=[5, 1, 5, 5, 5], timestamps=[10, 20, 5, 5, 5])
    kept = prepare(data, rating_at_least=4.0, k_core=2)  # the later, low rating is gone before duplicates are sought
    assert len(kept.interactions) == 4
    assert [finding.kind for finding in kept.findings] == ["low-rating"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rating_at_least": 6.0}, "low-rating"),
        ({"since": "2030-01-01"}, "out-of-range"),
        ({"k_core": 3}, "3-core"),
    ],
)
def test_nothing_left_names_the_filter(options: dict, words: str) -> None:
    data = dataset([(0, 0), (1, 1)], ratings=[5, 5], timestamps=[0, 0])
    with pytest.raises(DataError, match=words):
        prepare(data, **options)


@pytest.mark.parametrize(
    ("options", "words"), [({"rating_at_least": 4.0}, "ratings"), ({"until": "2020-01-01"}, "timestamps")]
)
def test_what_a_filter_needs_is_said(options: dict, words: str) -> None:
    with pytest.raises(DataError, match=f"needs {words}"):
        prepare(dataset([(0, 0)]), **options)
