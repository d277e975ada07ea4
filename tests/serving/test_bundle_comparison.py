"""Two bundles of one shop, compared by hand: lists, exposure, and quality on recent interactions."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from lmm4rec.cli.app import main
from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.core.types import Embeddings
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.bundle_comparison import compare_bundles
from lmm4rec.serving.list_overlap import list_overlap


def bundle(scores: dict[str, dict[str, float]], seen: list[tuple[str, str]] = []) -> Bundle:  # noqa: B006
    """A bundle whose score of each user for each item is given."""
    users, items = Vocabulary(scores, kind="user"), Vocabulary(next(iter(scores.values())))
    table = torch.tensor([[row[item] for item in items] for row in scores.values()])
    log = Interactions(
        np.array([users.row(user) for user, _ in seen], np.int32),
        np.array([items.row(item) for _, item in seen], np.int32),
    )
    titles = [f"title of {item}" for item in items]
    return Bundle(Embeddings(table, torch.eye(len(items))), users, items, titles, log, {"model": "by hand"})


def ranked(*items: str) -> dict[str, float]:
    """Scores that rank items in this order."""
    return {item: float(len(items) - place) for place, item in enumerate(items)}


BEFORE = {
    "ann": ranked("a", "b", "c", "d", "old"),
    "bob": ranked("a", "b", "c", "d", "old"),
    "gone": ranked("a", "b", "c", "d", "old"),
}
AFTER = {
    "bob": ranked("a", "c", "new", "b", "d"),
    "ann": ranked("b", "a", "c", "d", "new"),
    "cat": ranked("new", "d", "a", "b", "c"),
}


def test_lists_exposure_and_who_is_in_which() -> None:
    compared = compare_bundles(bundle(BEFORE), bundle(AFTER), 2)
    assert vars(compared.users) == {"both": 2, "only_before": 1, "only_after": 1}
    assert vars(compared.items) == {"both": 4, "only_before": 1, "only_after": 1}
    overlap = compared.overlap  # ann: a b and b a; bob: a b and a c
    assert (overlap.overlap, overlap.jaccard) == ((1 + 1 / 2) / 2, pytest.approx((1 + 1 / 3) / 2))
    assert (overlap.changed, overlap.first_changed) == (1.0, 0.5)
    assert [vars(one) for one in compared.gaining] == [
        {"item": "c", "title": "title of c", "before": 0.0, "after": 0.5}
    ]
    assert [vars(one) for one in compared.losing] == [{"item": "b", "title": "title of b", "before": 1.0, "after": 0.5}]
    assert compared.recent is None
    assert json.loads(json.dumps(compared.to_json()))["overlap"]["changed"] == 1.0


def test_what_a_user_has_in_either_bundle_is_in_neither_list() -> None:
    compared = compare_bundles(bundle(BEFORE, [("ann", "a")]), bundle(AFTER, [("bob", "c"), ("cat", "new")]), 2)
    # ann: b c and b c; bob: a b and a new
    assert compared.overlap.overlap == (1 + 1 / 2) / 2
    assert compared.overlap.changed == 0.5


def test_quality_on_recent_interactions_by_hand() -> None:
    recent = pl.DataFrame(
        [
            ("ann", "b"), ("ann", "b"), ("ann", "new"),  # a pair counts once
            ("bob", "c"), ("bob", "nowhere"), ("cat", "new"), ("cat", "old"), ("gone", "a"), ("eve", "a"),
        ],
        schema=["user", "item"], orient="row",
    )  # fmt: skip
    # each of the two has learned of a recent pair: it is to be ranked all the same
    first, second = bundle(BEFORE, [("ann", "d")]), bundle(AFTER, [("ann", "b"), ("ann", "d"), ("bob", "c")])
    found = compare_bundles(first, second, 1, recent=recent).recent
    assert found is not None
    assert found.metric == "recall@1"
    assert (found.interactions, found.of_unknown_users, found.of_unknown_items) == (3, 2, 1)
    every = found.all_items  # before: ann a, bob a; after: ann b, bob a
    assert (every.users, every.before, every.after, every.difference) == (2, 0.0, 0.25, 0.25)
    assert every.standard_error == pytest.approx(0.25)  # of 0.5 and 0
    common = found.common_items  # new is not in both, so ann wants b alone
    assert (common.users, common.before, common.after) == (2, 0.0, 0.5)
    assert (found.new_users.users, found.new_users.after) == (1, 0.5)  # cat: new and old, which only the first has
    assert (found.better, found.worse) == (1, 0)
    assert math.isnan(found.new_users.standard_error)
    assert compare_bundles(first, second, 1, recent=recent).to_json()["recent"]["new_users"]["standard_error"] is None
    ndcg = compare_bundles(first, second, 3, recent=recent.filter(pl.col("user") == "bob"), metric="ndcg").recent
    assert ndcg is not None
    assert (ndcg.all_items.before, ndcg.all_items.after) == (pytest.approx(0.5), pytest.approx(1 / math.log2(3)))


def test_thirds_of_the_users_by_activity() -> None:
    users = {f"u{n}": ranked("a", "b", "c", "d", "e") for n in range(6)}
    seen = [(f"u{n}", item) for n in range(6) for item in ["c", "d", "e"][: n // 2 + 1]]
    turned = {user: ranked("b", "a", "c", "d", "e") if user > "u3" else scores for user, scores in users.items()}
    recent = pl.DataFrame({"user": list(users), "item": ["b"] * 6})
    found = compare_bundles(bundle(users, seen), bundle(turned, seen), 1, recent=recent).recent
    assert found is not None
    assert {name: one.difference for name, one in found.by_activity.items()} == {
        "users: 1": 0.0, "users: 2": 0.0, "users: 3": 1.0,
    }  # fmt: skip


def rank_biased_overlap(first: list[int], second: list[int], p: float = 0.9) -> float:
    """Equation 23 of Webber, Moffat and Zobel (2010) for lists of one length, written out."""
    k = len(first)
    agreement = [len(set(first[:d]) & set(second[:d])) / d for d in range(1, k + 1)]
    return agreement[-1] * p**k + (1 - p) / p * sum(a * p**d for d, a in enumerate(agreement, 1))


def test_rank_biased_overlap_is_that_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    first, second = (np.stack([rng.permutation(12)[:6] for _ in range(40)]) for _ in range(2))
    wanted = [rank_biased_overlap(a.tolist(), b.tolist()) for a, b in zip(first, second, strict=True)]
    assert list_overlap(first, second).rank_biased == pytest.approx(np.mean(wanted))
    same, other = np.array([[1, 2, 3]]), np.array([[7, 8, 9]])
    assert list_overlap(same, same).rank_biased == pytest.approx(1.0)
    assert list_overlap(same, other).rank_biased == 0.0
    # two lists of two items, swapped: agreement 0, then 1
    swapped = list_overlap(np.array([[1, 2]]), np.array([[2, 1]]))
    assert swapped.rank_biased == pytest.approx(0.9**2 + 0.1 / 0.9 * 0.9**2)
    short = list_overlap(np.array([[1, -1, -1], [-1, -1, -1]]), np.array([[1, -1, -1], [-1, -1, -1]]))
    assert (short.overlap, short.jaccard, short.rank_biased, short.changed) == (1.0, 1.0, pytest.approx(1.0), 0.0)
    for one, two in itertools.pairwise([same, other, same]):
        assert list_overlap(one, two).overlap == 0.0


def test_what_cannot_be_compared_is_refused() -> None:
    one = bundle(BEFORE)
    with pytest.raises(ConfigError, match="k must be at least 1"):
        compare_bundles(one, one, 0)
    with pytest.raises(ConfigError, match="there is no item"):
        compare_bundles(one, one, recent=pl.DataFrame({"user": ["ann"]}))
    with pytest.raises(DataError, match="no user in common"):
        compare_bundles(one, bundle({"x": ranked("a", "b")}))


def test_the_command(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bundle(BEFORE, [("ann", "b")]).save(tmp_path / "before")
    bundle(AFTER).save(tmp_path / "after")
    (tmp_path / "log.csv").write_text("user_id,item_id\nann,b\nbob,c\n")
    command = ["compare-bundles", str(tmp_path / "before"), str(tmp_path / "after"), "-k", "1"]
    with pytest.raises(SystemExit) as ended:
        main([*command, "--recent", str(tmp_path / "log.csv"), "-o", str(tmp_path / "result.json")])
    printed = capfd.readouterr()
    assert ended.value.code == 0
    assert "1 of the 2 interactions is in the data of" in printed.err
    assert "recall@1 on 2 recent interactions" in printed.out
    assert json.loads((tmp_path / "result.json").read_text())["recent"]["all_items"]["difference"] == 0.5
