"""Nights of a tiny shop: what is learned, measured, decided and logged; yesterday's bundle outlives failures."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sqlite3
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from night_shops import DAY, OPENING, OPTIONS, conf, write_log

from lmm4rec.cli.app import main
from lmm4rec.core.errors import CheckpointError, ConfigError, DataError
from lmm4rec.core.files import read_json
from lmm4rec.data.sources import toyshop
from lmm4rec.experiments.night.live_folder import LiveFolder
from lmm4rec.experiments.night.night_data import labeled
from lmm4rec.experiments.night.refresh import RefreshOptions, is_worse, refresh
from lmm4rec.experiments.result import read_result
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.comparison_results import Measured
from lmm4rec.serving.feedback import FeedbackStore
from lmm4rec.serving.night_log import append_night, read_nights
from lmm4rec.serving.posted_interactions import PostedInteraction

FORCED = RefreshOptions(force=True)


def served(live: Path) -> str:
    return str((live / "bundle").readlink())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    write_log(tmp_path / "data", range(30), range(50), 8)
    return tmp_path


@pytest.fixture(scope="module")
def first_night(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The live folder after the first night of the popularity model."""
    folder = tmp_path_factory.mktemp("first")
    write_log(folder / "data", range(30), range(50), 8)
    refresh(conf(folder / "data", "popular"), folder / "live", options=OPTIONS)
    return folder / "live"


@pytest.fixture
def live(shop: Path, first_night: Path) -> Path:
    """A copy of it beside the shop's tables."""
    shutil.copytree(first_night, shop / "live", symlinks=True)
    return shop / "live"


def first_of(live: Path) -> str:
    return str(read_nights(live)[0]["night"])


@pytest.mark.long
def test_a_week_is_learned_night_by_night(shop: Path) -> None:
    tables, live = conf(shop / "data", "bpr"), shop / "live"
    first = refresh(tables, live, options=OPTIONS)
    assert (first.decision, first.epochs) == (
        "first",
        read_result(live / f"nights/{first.night}/candidate").measured.chosen.epoch,
    )
    assert (
        first.rows["interactions"]["new"]
        == len(Bundle.load(live).seen)
        == len(pl.read_csv(shop / "data/interactions.csv"))
    )
    again = refresh(tables, live, options=OPTIONS)
    assert (again.decision, again.why, again.yesterday) == ("kept", "no interaction is new", first.night)
    assert served(live) == f"nights/{first.night}/final/bundle"

    write_log(shop / "data", range(1, 33), range(1, 54), 13)
    log = pl.read_csv(shop / "data/interactions.csv")
    before = Bundle.load(live)
    third = refresh(tables, live, options=OPTIONS)
    assert third.decision == "swapped", third.why
    assert third.rows["users"] == {"kept": 29, "new": 3, "gone": 1}
    assert third.rows["items"] == {"kept": 49, "new": 4, "gone": 1}
    pairs = {(before.users[u], before.items[i]) for u, i in zip(before.seen.users, before.seen.items, strict=True)}
    today = set(log.select("user_id", "item_id").rows())
    counts = {"kept": len(today & pairs), "new": len(today - pairs), "gone": len(pairs - today)}
    assert third.rows["interactions"] == counts
    after = Bundle.load(live)
    assert len(after.seen) == log.height
    final, candidate = (read_result(live / f"nights/{third.night}/{name}") for name in ("final", "candidate"))
    assert final.measured.data.train == log.height  # everything
    assert final.measured.chosen.epochs == candidate.measured.chosen.epoch == third.epochs
    assert {one.plan.train.table["learning_rate"] for one in (final, candidate)} == {
        0.01
    }  # half the conf's, by the options
    assert {one.plan.train.start_from for one in (final, candidate)} == {str(live / f"nights/{first.night}/final")}

    # the newest two fifths of what is new are measured: neither bundle has learned from them
    new = log.filter([pair not in pairs for pair in log.select("user_id", "item_id").rows()]).sort("timestamp")
    measured = round(0.4 * new.height)
    facts = candidate.measured.data
    assert (facts.test, facts.valid) == (measured, round(0.5 * measured))
    newest = new.tail(measured)
    assert third.recent is not None
    in_both = newest.filter(newest["user_id"].is_in(list(before.users)))
    assert third.recent["interactions"] == in_both.height
    assert third.recent["all_items"]["users"] == in_both["user_id"].n_unique()
    assert third.comparison is not None
    assert third.comparison["users"] == {"both": 29, "only_before": 1, "only_after": 3}

    lines = [json.loads(line) for line in (live / "nights.jsonl").read_text().splitlines()]
    assert [line["decision"] for line in lines] == ["first", "kept", "swapped"]
    assert lines[2] == third.to_json() == read_json(live / f"nights/{third.night}/night.json")
    assert lines[2]["serving"] == third.night


@pytest.mark.long
@pytest.mark.parametrize(("model", "warns"), [("popular", True), ("ials", True), ("bpr", False)])
def test_a_rate_without_effect_is_said(
    shop: Path, live: Path, caplog: pytest.LogCaptureFixture, model: str, warns: bool
) -> None:
    with caplog.at_level(logging.WARNING):
        assert refresh(conf(shop / "data", model), live, options=OPTIONS).decision == "kept"  # nothing is new
    said = [one for one in caplog.messages if one.startswith("--rate 0.5 has no effect")]
    assert [one.endswith("has no train.learning_rate") for one in said] == [True] * warns
    caplog.clear()
    refresh(conf(shop / "data", model), live, options=replace(OPTIONS, rate=1.0))
    assert "--rate" not in caplog.text


def test_of_interactions_of_one_time_it_is_drawn_which_are_measured() -> None:
    dataset = toyshop.load(users=30, items=40, interactions=300)
    log = dataset.interactions
    dataset = replace(dataset, interactions=replace(log, timestamps=np.full(len(log), 86_400, np.int64)))
    new = np.arange(len(log)) >= len(log) - 50
    labels = labeled(dataset, new, 0.4).interactions.labels
    assert labels is not None
    assert np.bincount(labels[new]).tolist() == [20, 10, 20]
    assert not labels[~new].any()


@pytest.mark.long
def test_a_worse_candidate_is_not_served(shop: Path) -> None:
    live = shop / "live"
    first = refresh(conf(shop / "data"), live, options=OPTIONS)
    write_log(shop / "data", range(30), range(50), 13)
    other = {**conf(shop / "data"), "recommender": {"name": "popular"}}
    record = refresh(other, live, options=OPTIONS)  # it knows nothing of the two halves
    assert record.decision == "kept"
    assert "worse by more than 2% and two standard errors" in record.why
    assert record.recent is not None
    assert record.recent["all_items"]["difference"] < 0
    assert served(live) == f"nights/{first.night}/final/bundle"
    assert refresh(other, live, options=RefreshOptions(least_users=5, tolerance=1.0)).decision == "swapped"


def test_worse_is_by_more_than_the_tolerance_and_the_noise() -> None:
    assert is_worse(Measured(100, 0.20, 0.18, -0.02, 0.005, 0.01, 0.01), 0.05)
    assert not is_worse(Measured(100, 0.20, 0.18, -0.02, 0.005, 0.01, 0.01), 0.15)  # within the tolerance
    assert not is_worse(Measured(100, 0.20, 0.18, -0.02, 0.015, 0.01, 0.01), 0.05)  # within the noise
    assert not is_worse(Measured(100, 0.20, 0.22, 0.02, 0.001, 0.01, 0.01), 0.0)


@pytest.mark.long
def test_posted_interactions_are_learned_and_erased_users_forgotten(shop: Path) -> None:
    live = shop / "live"
    tables = conf(shop / "data", "ease")
    refresh(tables, live, options=OPTIONS)
    late = OPENING + 100 * DAY
    store = FeedbackStore(live / "interactions.sqlite")
    store.add(
        [
            PostedInteraction("ann", "i7", "bought", late, "1"),
            PostedInteraction("u2", "i1", "interaction", late + 1, "2"),
            PostedInteraction("u2", "i3", "dislike", late + 2, "3"),
            PostedInteraction("u3", "mug", "like", late + 3, "4"),  # not in the catalog
            PostedInteraction("bob", "i3", "skip", late + 4, "5"),  # no positive interaction
        ]
    )
    store.erase("u5")
    store.close()
    lost = pl.read_csv(shop / "data/interactions.csv").filter(pl.col("user_id") == "u5").height
    record = refresh(tables, live, options=FORCED)
    assert record.rows["posted"] == {"posted": 5, "of_added_items": 0, "unknown_items": 1}
    assert record.rows["of erased users"] == {"interactions": lost}
    assert record.left_out == {"mug": 1}
    assert record.rows["users"] == {"kept": 29, "new": 1, "gone": 1}
    bundle = Bundle.load(live)
    assert [one.item for one in bundle.history("ann")] == ["i7"]
    assert bundle.history("u2")[0] == ("i1", "item 1", late + 1)
    assert ("u5" in bundle.users, "bob" in bundle.users) == (False, False)
    assert [
        (bundle.users[u], bundle.items[i]) for u, i in zip(bundle.disliked.users, bundle.disliked.items, strict=True)
    ] == [("u2", "i3")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: write_log(folder, range(30), range(50), 9, title="name"), "the items' column 'title' are gone"),
        (lambda folder: write_log(folder, range(30), range(20), 9), "30 of 50 items are gone"),
        (lambda folder: write_log(folder, range(20, 50), range(50), 9), "20 of 30 users are gone"),
        (lambda folder: write_log(folder, range(30), range(50), 3), "150 of 240 interactions|interactions are gone"),
        (lambda folder: (folder / "items.csv").write_text("item_id,title\n"), "items"),
        (shutil.rmtree, "does not exist"),
    ],
)
def test_data_that_lost_most_of_itself_is_refused_by_name(shop: Path, live: Path, change: Any, message: str) -> None:
    change(shop / "data")
    with pytest.raises(DataError, match=message):
        refresh(conf(shop / "data", "popular"), live, options=OPTIONS)
    last = read_nights(live)[-1]
    assert (last["decision"], last["error"], last["serving"]) == ("failed", "DataError", first_of(live))
    assert Bundle.load(live).recommend(["u1"], 3)


def test_with_force_the_changed_data_are_taken(shop: Path, live: Path) -> None:
    write_log(shop / "data", range(30), range(20), 9, title="name")
    assert refresh(conf(shop / "data", "popular"), live, options=FORCED).decision == "swapped"
    assert len(Bundle.load(live).items) == 20


def test_a_database_that_goes_away_leaves_yesterday_serving(shop: Path, live: Path) -> None:
    base = shop / "shop.db"
    with sqlite3.connect(base) as file:
        file.execute("CREATE TABLE log (user_id TEXT, item_id TEXT, timestamp INTEGER)")
        file.executemany("INSERT INTO log VALUES (?, ?, ?)", pl.read_csv(shop / "data/interactions.csv").rows())
    file.close()
    queries = {"interactions": "SELECT * FROM log", "items": "SELECT * FROM catalog"}
    tables = conf(shop, "popular") | {"data": {"name": "sql", "uri": f"sqlite:///{base}", **queries}}
    before = served(live)
    with pytest.raises(DataError, match="the query of the items fails"):  # the log has been read by then
        refresh(tables, live, options=OPTIONS)
    assert (read_nights(live)[-1]["error"], served(live)) == ("DataError", before)
    base.unlink()
    with pytest.raises(DataError, match="there is no database"):
        refresh(tables, live, options=OPTIONS)


def test_two_at_once(shop: Path, live: Path) -> None:
    tables = conf(shop / "data", "popular")
    with (
        LiveFolder(live).locked(),
        pytest.raises(ConfigError, match=f"is in use: process {os.getpid()} on .* refreshes it"),
    ):
        refresh(tables, live, options=OPTIONS)
    assert len(read_nights(live)) == 1
    assert refresh(tables, live, options=OPTIONS).decision == "kept"


class Killed(BaseException):
    """What ends a process on the spot: nothing is written after it."""


@pytest.mark.long
@pytest.mark.parametrize("moment", ["remove_old", "log", "serve", "write_record"])
def test_killed_at_any_step_one_of_both_bundles_is_served_and_the_log_is_whole(
    shop: Path, live: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    first, tables = first_of(live), conf(shop / "data", "popular")
    write_log(shop / "data", range(30), range(50), 13)

    def killed(*_: object) -> None:
        monkeypatch.setattr(LiveFolder, "log", killed)
        raise Killed

    monkeypatch.setattr(LiveFolder, moment, killed)
    with pytest.raises(Killed):
        refresh(tables, live, options=OPTIONS)
    monkeypatch.undo()
    (live / ".bundle.1.part").symlink_to("nights")
    swapped = moment in ("remove_old", "log")
    assert (served(live) != f"nights/{first}/final/bundle") is swapped
    assert Bundle.load(live).recommend(["u1"], 3)
    record = refresh(tables, live, options=OPTIONS)
    decisions = [line["decision"] for line in read_nights(live)]
    assert decisions == (["first", "swapped", "kept"] if swapped else ["first", "interrupted", "swapped"])
    assert {path.name for path in (live / "nights").iterdir()} == {first, record.serving}
    assert {path.name for path in live.iterdir()} == {"bundle", "nights", "nights.jsonl"}


@pytest.mark.long
def test_old_nights_are_removed_except_the_served_one(shop: Path, live: Path) -> None:
    options = RefreshOptions(keep=2, force=True)
    second, third = (refresh(conf(shop / "data", "popular"), live, options=options) for _ in range(2))
    assert [path.name for path in sorted((live / "nights").iterdir())] == [second.night, third.night]
    for name in ("a", "b", "c"):
        (live / f"nights/z{name}").mkdir()
    assert LiveFolder(live).remove_old(2) == [second.night, "za"]
    assert Bundle.load(live).users


@pytest.mark.parametrize("fails", [False, True])
def test_nights_that_know_an_erased_user_are_removed(shop: Path, live: Path, fails: bool) -> None:
    tables, first = conf(shop / "data", "popular"), first_of(live)
    (live / "nights/2020-01-01T000000Z").mkdir()
    append_night(live, {"night": "2020-01-01T000000Z"})
    assert refresh(tables, live, options=OPTIONS).decision == "kept"
    assert (live / f"nights/{first}/candidate").is_dir()
    store = FeedbackStore(live / "interactions.sqlite")
    store.erase("u5")
    store.close()
    if fails:
        shutil.rmtree(shop / "data")
    with pytest.raises(DataError) if fails else nullcontext():
        refresh(tables, live, options=OPTIONS)
    assert read_nights(live)[-1]["decision"] == ("failed" if fails else "kept")
    assert [path.name for path in (live / "nights").iterdir()] == [first]  # which is served
    assert not (live / f"nights/{first}/candidate").exists()
    assert not (live / f"nights/{first}/final/report.html").exists()
    assert Bundle.load(live).users


def test_what_is_no_live_folder_is_refused(shop: Path, live: Path) -> None:
    tables = conf(shop / "data", "popular")
    shutil.rmtree(live / served(live))
    with pytest.raises(CheckpointError, match="which is not there or is no night's bundle"):
        refresh(tables, live, options=OPTIONS)
    (live / "bundle").unlink()
    (live / "bundle").mkdir()
    with pytest.raises(CheckpointError, match="is a folder, and `refresh` replaces a symlink"):
        refresh(tables, live, options=OPTIONS)


def test_a_cut_line_of_the_log_costs_no_other(tmp_path: Path) -> None:
    append_night(tmp_path, {"night": "1"})
    with (tmp_path / "nights.jsonl").open("a") as file:
        file.write('{"night": "2", "dec')
    append_night(tmp_path, {"night": "3"})
    assert [record["night"] for record in read_nights(tmp_path)] == ["1", "3"]


@pytest.mark.long
def test_the_command_says_what_it_did(shop: Path, live: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (shop / "shop.conf").write_text(
        f'[data]\nname = "table"\npath = "{shop / "data"}"\n[recommender]\nname = "popular"\n'
    )

    def call(*more: str) -> object:
        with pytest.raises(SystemExit) as ended:
            main(["refresh", str(shop / "shop.conf"), "--live", str(live), *more])
        return ended.value.code

    assert call() == 0
    assert "no interaction is new" in capfd.readouterr().out
    assert call("-s", "recommender.name=nothing") == 2
    assert "nothing" in capfd.readouterr().err
    assert read_nights(live)[-1]["error"] == "ConfigError"
