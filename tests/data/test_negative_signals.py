"""Negative signals by a hand-made shop: what is read, what may train under each split, what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.doctor import describe
from lmm4rec.data.filters import prepare
from lmm4rec.data.negative_signals import NegativeSignals
from lmm4rec.data.sources import table
from lmm4rec.data.splits import Split, split
from lmm4rec.testing import check_source

#       user   item   kind          time
LOG = [("ann", "mug", "bought", 10), ("ann", "lamp", "like", 20), ("ann", "chair", "view", 30),
       ("ann", "rug", "dislike", 15), ("ann", "bed", "Skip", 25), ("ann", "vase", "skip", 40),
       ("bob", "rug", "", 10), ("bob", "mug", "click", 20), ("bob", "bed", "purchase", 30),
       ("bob", "lamp", "dislike", 30), ("bob", "mug", "dislike", 12), ("bob", "bed", "dislike", 5),
       ("cleo", "mug", "dislike", 1)]  # fmt: skip


def shop(log: list[tuple[str, str, str, int]] = LOG, **keys: Any) -> Dataset:
    frame = pl.DataFrame(log, schema=["user_id", "item_id", "kind", "timestamp"], orient="row")
    return table.load(interactions=frame, **keys)


def named(data: Dataset, signals: NegativeSignals) -> set[tuple[str, str, str]]:
    rows = zip(signals.users.tolist(), signals.items.tolist(), signals.kinds.tolist(), strict=True)
    return {(data.users[user], data.items[item], signals.names[kind]) for user, item, kind in rows}


def test_kinds_part_the_log_and_are_counted() -> None:
    data = shop()
    assert list(data.users) == ["ann", "bob"]
    assert len(data.interactions) == 6
    assert data.negatives.counts == {"dislike": 4, "skip": 2}
    assert describe(data)["negative signals"] == "6 (4 dislike, 2 skip)"
    messages = [finding.message for finding in data.findings]
    assert any("1 row of interactions without a kind count as positive" in message for message in messages)
    assert any("1 negative signal left out: their user has no positive" in message for message in messages)
    assert data.n_items == 6
    check_source(shop)


TRAINS_OF_ALL = {("ann", "rug", "dislike"), ("ann", "bed", "skip"), ("ann", "vase", "skip"), ("bob", "lamp", "dislike")}


@pytest.mark.parametrize(
    ("method", "shares", "expected"),
    [
        # ann's chair and bob's bed (30) test, lamp and mug (20) validate: signals from before 20
        ("leave_last_out", {}, {("ann", "rug", "dislike"), ("bob", "mug", "dislike"), ("bob", "bed", "dislike")}),
        # without a held-out part all may, but for pairs with a positive in training
        ("leave_last_out", {"valid": 0.0, "test": 0.0}, TRAINS_OF_ALL),
        # one time for all: the third of the interactions from 30 on is held out; bob's mug (20) trains
        ("global_time", {"valid": 0.0, "test": 0.33},
         {("ann", "rug", "dislike"), ("ann", "bed", "skip"), ("bob", "bed", "dislike")}),
        ("user_time", {"valid": 0.0, "test": 0.33},
         {("ann", "rug", "dislike"), ("ann", "bed", "skip"), ("bob", "bed", "dislike")}),
    ],
)  # fmt: skip
def test_signals_that_may_train(method: str, shares: dict[str, float], expected: set[tuple[str, str, str]]) -> None:
    parts = split(shop(), method, **shares)
    assert named(parts.dataset, parts.negatives) == expected
    assert parts.findings[-1].kind == "negative-signals"
    assert len(parts.without_test().dataset.negatives) == len(expected)


def test_what_cannot_train_is_counted() -> None:
    parts = split(shop(), "global_time", valid=0.0, test=0.33)
    assert parts.findings[-1].message == (
        "3 negative signals can train (2 dislike, 1 skip); not used: 2 later than the training part; "
        "not used: 1 against a positive interaction in training, which counts"
    )


def test_a_random_split_has_no_order_in_time() -> None:
    parts: Split = split(shop(), "random", valid=0.0, test=0.33, seed=1)
    assert named(parts.dataset, parts.negatives) >= TRAINS_OF_ALL


def test_low_ratings_are_negative_signals_through_the_filters() -> None:
    ratings = pl.DataFrame({"user_id": ["a", "a", "a", "b", "b", "c"], "item_id": ["x", "y", "z", "x", "y", "z"],
                            "rating": [5, 2, 4, 4, 1, 1], "timestamp": [1, 2, 3, 4, 5, 6]})  # fmt: skip
    data = table.load(interactions=ratings)
    assert not len(prepare(data).negatives)
    for low in (prepare(data, rating_at_least=4.0), table.load(interactions=ratings, rating_at_least=4.0)):
        assert named(low, low.negatives) == {("a", "y", "low rating"), ("b", "y", "low rating")}
    early = prepare(data, rating_at_least=4.0, until=5)
    assert named(early, early.negatives) == {("a", "y", "low rating")}
    core = prepare(data, rating_at_least=4.0, k_core=1)  # y has no positive interaction
    assert list(core.items) == ["x", "z"]
    assert not len(core.negatives)


def test_signals_are_those_of_a_dataset_without_a_kind_column() -> None:
    plain = pl.DataFrame(LOG, schema=["user_id", "item_id", "sort", "timestamp"], orient="row")
    data = table.load(interactions=plain)
    assert (len(data.interactions), len(data.negatives), data.n_users) == (13, 0, 3)


@pytest.mark.parametrize(
    ("keys", "kind", "words"),
    [
        ({"negative_kinds": ["dislike"]}, DataError, "unknown kinds: 'skip'. Name each in data.positive_kinds"),
        ({"kind_column": "sort"}, DataError, "no column 'sort' for the kinds"),
        ({"negative_kinds": ["skip", "dislike", "like"]}, ConfigError, "'like' is in data.positive_kinds and in"),
        (
            {"positive_kinds": ["sold"], "negative_kinds": [*"abc", *{row[2].lower() for row in LOG if row[2]}]},
            None,
            "",
        ),
    ],
)
def test_wrong_kinds_are_named(keys: dict[str, Any], kind: type[Exception] | None, words: str) -> None:
    if kind is None:
        assert len(shop(**keys).interactions) == 1  # the row without a kind
        return
    with pytest.raises(kind, match=words):
        shop(**keys)


def test_only_negative_rows_are_an_error() -> None:
    with pytest.raises(DataError, match="no positive interaction, only 1 negative signal"):
        shop([("ann", "mug", "skip", 1)])
    assert len(shop(kind_column="").interactions) == 13


def test_the_columns_of_posted_interactions_are_read(tmp_path: Path) -> None:
    """`lmm4rec interactions` writes user, item, timestamp and kind; the catalog beside them has its own names."""
    (tmp_path / "interactions.csv").write_text(
        "user,item,timestamp,kind\na,1,1700000000,interaction\na,2,1700000001,skip\nb,2,1700000002,bought\n"
    )
    (tmp_path / "items.csv").write_text("item_id,title\n1,mug\n2,lamp\n")
    data = table.load(path=tmp_path)
    assert named(data, data.negatives) == {("a", "2", "skip")}
    assert data.catalog.title(0) == "mug"
