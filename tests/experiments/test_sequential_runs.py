"""Runs of models that read sequences: protocols, odd data, warm starts, nights, and encoders in training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from lmm4rec.core.errors import ConfigError, DataError
from lmm4rec.data.order_of_time import order_findings
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import RunFeatures
from lmm4rec.experiments.build.recommenders import make_graph, make_objective, make_recommender
from lmm4rec.experiments.build.warm_start import earlier_weights, start_from
from lmm4rec.experiments.checks import problems
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.night.refresh import RefreshOptions, refresh
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.result import Result
from lmm4rec.experiments.run import run
from lmm4rec.serving.answers import NewItem

Row = tuple[str, str, int]
DAY, OPENING = 86_400, 1_700_000_000


def write(folder: Path, rows: list[Row], *, times: bool = True) -> dict[str, Any]:
    """A log on disk, and the conf of a Markov chain on it."""
    folder.mkdir(exist_ok=True)
    frame = pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row")
    (frame if times else frame.drop("timestamp")).write_csv(folder / "interactions.csv")
    return {
        "data": {"name": "table", "path": str(folder)},
        "split": {"method": "leave_last_out"},
        "recommender": {"name": "markov"},
        "evaluate": {"ks": [1]},
    }


def sasrec(conf: dict[str, Any], **more: Any) -> dict[str, Any]:
    train = {"epochs": 4, "learning_rate": 0.02, "metric": "recall@1"}
    return conf | {"recommender": {"name": "sasrec", "dim": 8, "layers": 1, "length": 6, **more}, "train": train}


def walks(users: int = 12, items: int = 10, steps: int = 6) -> list[Row]:
    """Users who go around a ring of items, each from another beginning; the file is not in the order of time."""
    rows = [
        (f"u{user}", f"i{(user + step) % items}", OPENING + DAY * step + user)
        for user in range(users)
        for step in range(steps)
    ]
    return sorted(rows, key=lambda row: row[1])


def findings(result: Result) -> str:
    return " | ".join(result.measured.data.findings)


@pytest.mark.long
def test_the_test_is_predicted_from_training_and_validation_and_validation_from_training(tmp_path: Path) -> None:
    """In a ring the next item is certain, from the item right before it alone."""
    result = run(write(tmp_path / "log", walks()), out=tmp_path / "run")
    assert result.metrics["valid"]["recall@1"] == 1.0
    assert result.metrics["test"]["recall@1"] == 1.0
    known = {"evaluate.protocol": "mmrec"}  # as if validation had not happened: the item before the last is predicted
    assert run(write(tmp_path / "log", walks()), known, out=tmp_path / "mmrec").metrics["test"]["recall@1"] == 0.0


def test_its_bundle_reads_all_that_is_known(tmp_path: Path) -> None:
    bundle = run(write(tmp_path / "log", walks()), out=tmp_path / "run").bundle()
    assert [one.item for one in bundle.recommend(["u0"], 1)["u0"]] == ["i6"]  # after i0 to i5, the test item


@pytest.mark.parametrize("times", ["missing", "equal"])
def test_without_times_the_order_of_the_file_counts_and_is_said(tmp_path: Path, times: str) -> None:
    rows = [(user, item, OPENING) for user, item, _ in sorted(walks(), key=lambda row: row[2])]
    conf = write(tmp_path / "log", rows, times=times == "equal")
    conf["split"] = {"method": "random", "valid": 0.0, "test": 0.0}
    result = run(conf, out=tmp_path / "run")
    assert [one.item for one in result.bundle().recommend(["u0"], 1)["u0"]] == ["i6"]
    said = {
        "missing": "warning: there are no timestamps: the order of the file is taken as the order of time",
        "equal": "warning: all 60 interactions that follow another of their user have its timestamp: these are taken",
    }
    assert said[times] in findings(result)
    assert "holds out" not in findings(result).replace("no interaction is held out", "")


def test_held_out_items_leave_what_comes_later_in_the_histories(tmp_path: Path) -> None:
    """As a random split does: an item that is held out stands between those of training."""
    conf = write(tmp_path / "log", walks()) | {"split": {"method": "cold_items", "valid": 0.2, "test": 0.2}}
    (finding, *_) = order_findings(DataCache().split(make_plan(load_spec(conf))))
    assert "'cold_items' holds out interactions from between those of training" in finding.message


@pytest.mark.long
def test_some_equal_times_are_a_note_and_a_random_split_is_a_warning(tmp_path: Path) -> None:
    rows = [(user, item, when - when % (2 * DAY)) for user, item, when in walks()]
    conf = write(tmp_path / "log", rows)
    assert "note: " in findings(run(conf, out=tmp_path / "in_time"))
    conf["split"] = {"method": "random"}
    said = findings(run(conf, out=tmp_path / "run"))
    assert "warning: the split 'random' holds out interactions from between those of training" in said
    assert "interactions that follow another of their user have its timestamp" in said


def test_leave_last_out_without_times_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs timestamps"):
        run(write(tmp_path / "log", walks(), times=False), out=tmp_path / "run")


def test_a_filtered_item_is_no_part_of_the_sequence(tmp_path: Path) -> None:
    rows = [*walks(), ("u0", "rare", OPENING + DAY * 2 + 1), ("once", "i3", OPENING)]
    conf = write(tmp_path / "log", rows)
    plan = make_plan(load_spec(conf, {"data.k_core": 2}))
    split = DataCache().split(plan)
    items, users = split.dataset.items, split.dataset.users
    assert "rare" not in items
    rows_of, counts = make_graph(split, in_order=True).sequences.latest(10)
    row = users.row("u0")
    assert [items[item] for item in rows_of[row, : counts[row]].tolist()] == ["i0", "i1", "i2", "i3"]


@pytest.mark.long
def test_a_sequence_of_one_trains_nothing_and_is_ranked(tmp_path: Path) -> None:
    conf = sasrec(write(tmp_path / "log", [*walks(), ("once", "i3", OPENING)]))
    result = run(conf, out=tmp_path / "run")
    assert len(result.bundle().recommend(["once"], 5)["once"]) == 5


def test_a_user_whose_items_are_all_held_out_is_set_aside_and_has_no_vector(tmp_path: Path) -> None:
    conf = write(tmp_path / "log", [*walks(), ("late", "i1", OPENING + 99 * DAY), ("late", "i2", OPENING + 99 * DAY)])
    plan = make_plan(load_spec(sasrec(conf), {"split.method": "global_time"}))
    split = DataCache().split(plan)
    assert any(finding.kind == "untrained-user" for finding in split.findings)
    with torch.no_grad():
        users = make_recommender(plan, split, {}).embed({}).users  # type: ignore[attr-defined]
    late = split.dataset.users.row("late")
    assert not users[late].any()
    assert users.any(1).sum() == len(users) - 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"recommender.length": 0}, r"recommender\.length"),
        ({"recommender.items": "content"}, "SASRec needs features: give the conf an .encoder. table"),
        ({"recommender.loss": "softmx"}, "softmax"),
        ({"recommender.heads": 3}, "must be a multiple of recommender.heads = 3"),
        ({"recommender.calibration": 1.5}, r"recommender\.calibration"),
    ],
)
def test_wrong_keys_are_named_before_any_work(tmp_path: Path, overrides: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(sasrec(write(tmp_path / "log", walks())), overrides, out=tmp_path / "run")


def test_sizes_and_sequences_are_checked_before_anything_is_encoded(tmp_path: Path) -> None:
    """By the doctor too: three interactions of a user leave one beside those that are held out."""
    conf = sasrec(write(tmp_path / "log", walks(steps=3)), heads=3)
    plan = make_plan(load_spec(conf))
    found = [str(problem) for problem in problems(plan, DataCache().split(plan))]
    assert len(found) == 2
    assert found[0] == "recommender.dim = 8 must be a multiple of recommender.heads = 3"
    assert found[1].startswith("no user has a sequence of two items in the training part")
    enough = make_plan(load_spec(sasrec(write(tmp_path / "log", walks(steps=4)))))
    assert not list(problems(enough, DataCache().split(enough)))


@pytest.mark.long
def test_a_resumed_training_is_that_of_one_go(tmp_path: Path) -> None:
    conf = sasrec(write(tmp_path / "log", walks()), dropout=0.5)
    whole = run(conf, out=tmp_path / "whole")
    run(conf, {"train.epochs": 2}, out=tmp_path / "parts")
    resumed = run(conf, out=tmp_path / "parts", resume=True)
    assert [row["loss"] for row in resumed.history] == [row["loss"] for row in whole.history]


@pytest.mark.long
@pytest.mark.parametrize("model", ["sasrec", "gru4rec"])
def test_a_warm_start_keeps_the_network_and_the_items(tmp_path: Path, model: str) -> None:
    conf = sasrec(write(tmp_path / "log", walks()))
    conf["recommender"] = {"name": model, "dim": 8, "length": 6}
    first = run(conf, out=tmp_path / "first")
    write(tmp_path / "log", [*walks(users=13), *(("u1", f"new{n}", OPENING + (20 + n) * DAY) for n in range(2))])
    plan = make_plan(load_spec(conf, {"train.start_from": str(first.folder.path)}))
    split, data = DataCache().split(plan), make_plan(load_spec(conf))
    objective = make_objective(data, split, RunFeatures({}), make_recommender(data, split, {}))
    (note, *_) = start_from(first.folder.path, plan, objective, split, {})
    assert "items: 10 kept, 2 new, 0 gone" in str(note)
    before, now = earlier_weights(first.folder.path, plan), objective.state_dict()
    table = "recommender.model.items.table"
    assert all(torch.equal(now[name], weight) for name, weight in before.items() if name != table)
    at = split.dataset.items.rows(first.bundle().items)
    assert torch.equal(now[table][at], before[table])


@pytest.mark.long
def test_nights_refresh_it_and_compare_without_reading_what_is_measured(tmp_path: Path) -> None:
    options = RefreshOptions(least_users=3)
    conf = write(tmp_path / "log", walks(steps=5))
    first = refresh(conf, tmp_path / "live", options=options)
    write(tmp_path / "log", walks(steps=7))
    second = refresh(conf, tmp_path / "live", options=options)
    assert (first.decision, second.decision) == ("first", "swapped"), second.why
    assert second.recent is not None
    measured = second.recent["all_items"]
    # both know all transitions of the ring; neither reads the items that are to be predicted
    assert measured["after"] == measured["before"] == 1.0


PARADIGMS: dict[str, dict[str, Any]] = {
    "frozen": {"train": "frozen"},
    "live": {"train": "end2end"},
    "deferred": {"train": "end2end", "end2end": {"every": "epoch", "max_items": 16}},
    "side": {"train": "end2end", "adapter": "side"},
    "last": {"train": "end2end", "adapter": "last"},
    "lora": {"train": "end2end", "adapter": "lora"},
    "finetuned": {"train": "finetuned", "finetune": {"epochs": 1}},
}


@pytest.mark.long
@pytest.mark.parametrize(
    ("paradigm", "model", "items"),
    [
        ("deferred", "sasrec", "content"),
        *(
            pytest.param(name, model, items, marks=pytest.mark.slow)
            for name in PARADIGMS
            for model, items in (("sasrec", "content"), ("gru4rec", "both"))
            if name != "deferred" or model != "sasrec"
        ),
    ],
)
def test_sequences_over_an_encoder_in_every_paradigm_take_new_items(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    paradigm: str,
    model: str,
    items: str,
) -> None:
    pytest.importorskip("transformers")
    monkeypatch.setenv("LMM4REC_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    conf = {
        "data": {"name": "toyshop", "items": 40, "users": 30, "interactions": 300},
        "split": {"method": "leave_last_out"},
        "encoder": {"name": "clip", "checkpoint": "tiny"},
        "features": {"precision": "float32", **PARADIGMS[paradigm]},
        "recommender": {"name": model, "dim": 8, "length": 5, "items": items, "content_hidden": 6},
        "train": {"epochs": 2, "batch_size": 16, "learning_rate": 0.02},
    }
    result = run(conf, out=tmp_path / "run")
    if "end2end" in str(conf["features"]):
        assert sum(row["encoded"] for row in result.history) > 0
    bundle = result.bundle()
    bundle.add_items([NewItem("new", {"title": bundle.title(bundle.items[0]), "description": "a new one"})])
    scores = {one.item: one.score for one in bundle.recommend_for([bundle.items[1], "new"], 40)}
    assert len(scores) == 39
    assert "new" in {one.item for one in bundle.recommend_for([bundle.items[1]], 41)}
