"""Data on which a run stopped: users with every item, splits that hold out nothing, and metrics at another k."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import tomli_w

from lmm4rec.cli.app import main
from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.experiments.compare import ComparedRun, compare
from lmm4rec.experiments.estimate.run import estimate_run
from lmm4rec.experiments.report.collect import collect
from lmm4rec.experiments.reproduce import reproduce
from lmm4rec.experiments.result import read_result
from lmm4rec.experiments.run import run
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.search.tune import tune
from lmm4rec.experiments.study.study import study

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


@pytest.mark.long
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


@pytest.mark.long
@pytest.mark.parametrize("model", ["bpr", "popular"])
@pytest.mark.parametrize(("valid", "test"), [(0, 0), (0, 0.2), (0.2, 0)])
def test_a_part_without_a_share_is_not_measured_and_the_run_ends_with_a_bundle(
    tmp_path: Path, valid: float, test: float, model: str, capfd: pytest.CaptureFixture[str]
) -> None:
    base = conf(tmp_path / "shop", 20, 6, split={"method": "random", "valid": valid, "test": test})
    base |= {"recommender": {"name": model}, "train": {"epochs": 4, "patience": 1, "learning_rate": 10.0}}
    (tmp_path / "all.conf").write_text(tomli_w.dumps(base))
    with pytest.raises(SystemExit) as ended:
        main(["run", str(tmp_path / "all.conf"), "-o", str(tmp_path / "run")])
    assert ended.value.code == 0
    output = capfd.readouterr().out
    assert ("┃ Recall@20 " in output, "valid Recall@20" in output) == (bool(test), bool(valid))
    result = read_result(tmp_path / "run")
    findings = " ".join(result.measured.data.findings)
    assert ("all epochs are trained" in findings, "nothing is measured" in findings) == (not valid, not test)
    assert (bool(result.measured.valid), bool(result.measured.test)) == (bool(valid), bool(test))
    if not valid and model == "bpr":  # no early stopping
        assert (result.measured.chosen.epoch, result.measured.chosen.epochs) == (4, 4)
    assert len(result.bundle().recommend(["u1"], 3)["u1"]) == 3
    page = result.folder.report.read_text()
    assert ("Nothing was held out for a test" in page) == (not test)
    assert ("Nothing was held out for validation" in page) == (not valid)
    assert ">nan<" not in page.lower()


@pytest.mark.long
@pytest.mark.parametrize("model", ["bpr", "popular"])
def test_a_final_training_is_estimated(tmp_path: Path, model: str, capfd: pytest.CaptureFixture[str]) -> None:
    """It holds nothing out for validation, which then takes no time."""
    base = conf(tmp_path / "shop", 20, 6, split={"method": "random"}) | {"recommender": {"name": model}}
    run(base, out=tmp_path / "run")
    (tmp_path / "shop.conf").write_text(tomli_w.dumps(base))
    with pytest.raises(SystemExit) as ended:
        main(["run", str(tmp_path / "shop.conf"), "--final", str(tmp_path / "run"), "--dry-run"])
    assert ended.value.code == 0
    assert "what it takes at most" in capfd.readouterr().out


def test_what_compares_needs_the_parts_that_it_compares_by(tmp_path: Path) -> None:
    base = conf(tmp_path / "shop", 20, 6, split={"method": "random", "valid": 0, "test": 0})
    run(base, out=tmp_path / "run")
    search = {"budget": 1, "sampler": "random", "space": {"recommender.dim": [2, 4]}}
    refused: dict[str, Callable[[], object]] = {
        "split.valid = 0, but a comparison": lambda: compare([ComparedRun("a", base, {})], tmp_path / "c", title="c"),
        "split.valid = 0, but a study": lambda: study({**base, "axes": {"seed": [0, 1]}}, out=tmp_path / "study"),
        "split.valid = 0, but a search": lambda: tune(base, SearchOptions.of(search), tmp_path / "search"),
        "split.test = 0, but a report": lambda: collect([tmp_path / "run"]),
        "measured on nothing": lambda: reproduce(tmp_path / "run"),
    }
    for words, work in refused.items():
        with pytest.raises(ConfigError, match=words):
            work()
    assert {path.name for path in tmp_path.iterdir()} == {"shop", "run"}


def test_another_k_than_the_default_is_measured_and_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    base = conf(tmp_path / "shop", 20, 6, split={"method": "random"})
    base |= {"recommender": {"name": "popular"}, "evaluate": {"ks": [3], "metrics": ["ndcg"]}}
    (tmp_path / "k.conf").write_text(tomli_w.dumps(base))
    with pytest.raises(SystemExit) as ended:
        main(["run", str(tmp_path / "k.conf"), "-o", str(tmp_path / "run")])
    assert ended.value.code == 0
    assert " NDCG@3 " in capfd.readouterr().out
    assert "NDCG@3" in (tmp_path / "run" / "report.html").read_text()


def test_cold_candidates_without_a_cold_item_are_refused_before_any_work(tmp_path: Path) -> None:
    base = conf(tmp_path / "shop", 20, 6, split={"method": "random"}) | {"evaluate": {"candidates": "cold"}}
    with pytest.raises(DataError, match='take the split method = "cold_items"'):
        run(base, out=tmp_path / "run")
