"""Data on which a run stopped: users with every item, and splits that hold out nothing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from lmm4rec.core.errors import DataError
from lmm4rec.experiments.estimate.run import estimate_run
from lmm4rec.experiments.run import run

N_ITEMS = 10


def conf(folder: Path, users: int, each: int, *, split: dict[str, Any], bots: int = 0) -> dict[str, Any]:
    """A log of `users` with `each` of ten items, of which bots have all ten; item i0 is with every user."""
    steps = [(user, step) for step in range(each) for user in range(users)]  # all first ones, then all second ones
    pairs = dict.fromkeys((f"u{user}", f"i{(user + step) % N_ITEMS if step else 0}") for user, step in steps)
    rows = [(user, item, 0, 1_700_000_000 + at) for at, (user, item) in enumerate(pairs)]
    rows += [(f"bot{bot}", f"i{item}", 0, 1_700_000_000) for bot in range(bots) for item in range(N_ITEMS)]
    folder.mkdir()
    pl.DataFrame(rows, schema=["user_id", "item_id", "x", "timestamp"], orient="row").write_csv(
        folder / "interactions.csv"
    )
    return {
        "data": {"name": "table", "path": str(folder)},
        "split": split,
        "recommender": {"name": "bpr", "dim": 4},
        "train": {"epochs": 1},
    }


@pytest.mark.parametrize("model", ["bpr", "lightgcn", "itemknn"])
def test_users_with_every_item_are_named_and_training_goes_on(tmp_path: Path, model: str) -> None:
    """The test and validation parts are of the others, whose last interactions the split by time holds out."""
    base = conf(tmp_path / "shop", 31, 6, split={"method": "global_time"}, bots=2)
    base["recommender"] = {"name": model}
    result = run(base, out=tmp_path / "run")
    (finding,) = [line for line in result.measured.data.findings if "all 10 items in training" in line]
    assert "2 users" in finding
    assert "user bot0; user bot1" in finding
    assert result.metrics["test"]["recall@20"] > 0
    lists = result.bundle().recommend(["bot0", "u1"], 3)
    assert [len(lists[user]) for user in ("bot0", "u1")] == [0, 3]


@pytest.mark.parametrize(
    ("split", "each", "words"),
    [
        ({"valid": 0}, 6, "the validation part is empty, so no epoch can be chosen: split.valid = 0; set it above 0"),
        ({"test": 0}, 6, "the test part is empty, so nothing is measured: split.test = 0; set it above 0"),
        ({"method": "user_time"}, 2, 'none has more than 2. Take method = "leave_last_out"'),
        ({"method": "random"}, 2, "'random' holds out interactions of users with at least 3"),
        ({"method": "leave_last_out"}, 2, "'leave_last_out' needs users with 3 interactions"),
        ({"method": "global_time", "valid": 0.001}, 2, "its share of split.valid = 0.001 holds no interaction"),
    ],
)  # fmt: skip
def test_a_split_that_holds_out_nothing_is_refused_before_any_work(
    tmp_path: Path, split: dict[str, Any], each: int, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = conf(tmp_path / "shop", 20, each, split=split)
    for module in ("run", "estimate.run"):
        monkeypatch.setattr(f"lmm4rec.experiments.{module}.load_features", None)
    for work in (lambda: run(base, out=tmp_path / "run"), lambda: estimate_run(base)):
        with pytest.raises(DataError, match=re.escape(words)):
            work()
    assert not (tmp_path / "run").exists()


def test_cold_candidates_without_a_cold_item_are_refused_before_any_work(tmp_path: Path) -> None:
    base = conf(tmp_path / "shop", 20, 6, split={"method": "random"}) | {"evaluate": {"candidates": "cold"}}
    with pytest.raises(DataError, match='take the split method = "cold_items"'):
        run(base, out=tmp_path / "run")
