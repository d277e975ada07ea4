"""Studies carried out: shared work, failures, hidden content; then the report and the reproduction."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from camp_study import POPULAR, VBPR, Conf, camp_study

import lmm4rec.experiments.study.tasks as tasks_module
from lmm4rec.core.errors import CheckpointError, ConfigError, DataError, TrainingError
from lmm4rec.core.files import read_json, write_json
from lmm4rec.evaluation.significance import compare
from lmm4rec.experiments.estimate.estimate import Estimate
from lmm4rec.experiments.estimate.study import StudyEstimates
from lmm4rec.experiments.report.collect import collect
from lmm4rec.experiments.report.design_comparisons import compare_along_axes, compare_with_reference, names_of_designs
from lmm4rec.experiments.report.study_report import write_study_report
from lmm4rec.experiments.reproduce import reproduce
from lmm4rec.experiments.study.cells import make_cells
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.progress import seconds_by_design, study_progress
from lmm4rec.experiments.study.reference import check_reference
from lmm4rec.experiments.study.spec import load_study
from lmm4rec.experiments.study.study import StudyResult, study
from lmm4rec.serving.bundle import Bundle


@pytest.fixture(scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Conf:
    return camp_study(tmp_path_factory.mktemp("world") / "camps")


@pytest.fixture(scope="module")
def done(conf: Conf, tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """The study above, carried out in this process."""
    return study(conf, out=tmp_path_factory.mktemp("study") / "tiny", workers=0)


@pytest.mark.long
def test_every_cell_is_an_ordinary_run(done: StudyResult) -> None:
    assert sorted(done.done) == [
        "popular", "seed-0_both_vbpr", "seed-0_shuffled_vbpr", "seed-1_both_vbpr", "seed-1_shuffled_vbpr",
    ]  # fmt: skip
    assert done.failed == []
    for name in done.done:
        assert Bundle.load(done.folder.cell(name).path).recommend(["1"], k=3)
    record = read_json(done.folder.record)
    assert record["cells"][0] == {
        "name": "popular", "axes": {"recommender": "Popular"}, "searched": False, "design": "popular",
    }  # fmt: skip
    assert len(list((done.folder.path / "content").glob("*.json"))) == 1  # both modalities' cells share their features
    assert not done.folder.running.exists()


@pytest.mark.long
def test_a_done_cell_is_not_run_again_and_a_grown_study_runs_the_rest(
    conf: Conf, done: StudyResult, tmp_path: Path
) -> None:
    fewer = conf | {"axes": {**conf["axes"], "modalities": ["both"]}}
    first = study(fewer, out=tmp_path / "grown", workers=0)
    stamps = {name: first.folder.cell(name).metrics.stat().st_mtime_ns for name in first.done}
    grown = study(conf, out=tmp_path / "grown", resume=True, workers=0)
    assert set(grown.done) == set(done.done)
    assert stamps == {name: grown.folder.cell(name).metrics.stat().st_mtime_ns for name in stamps}
    for name in grown.done:
        assert read_json(grown.folder.cell(name).metrics)["test"] == read_json(done.folder.cell(name).metrics)["test"]


def test_a_folder_is_taken_new_or_resumed(conf: Conf, done: StudyResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="already holds a study: add --resume"):
        study(conf, out=done.folder.path, workers=0)
    with pytest.raises(CheckpointError, match="there is nothing to resume"):
        study(conf, out=tmp_path / "nowhere", resume=True, workers=0)
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty and holds no study"):
        study(conf, out=tmp_path, workers=0)


@pytest.mark.long
def test_a_failed_cell_is_recorded_others_go_on_and_a_resumed_study_tries_again(
    conf: Conf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = conf | {"axes": {"recommender": {"Popular": {**POPULAR, "without": ["encoder"]}, "VBPR": VBPR}}}
    original = tasks_module.run

    def failing(cell: Any, *arguments: Any, **named: Any) -> Any:
        if cell["recommender"]["name"] == "vbpr":
            raise TrainingError("the loss is not finite")
        return original(cell, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(tasks_module, "run", failing)
        result = study(small, out=tmp_path / "study", workers=0)
    assert (result.done, result.failed) == (["popular"], ["vbpr"])
    failure = result.folder.failures()["cell-vbpr"]
    assert (failure["error"], failure["message"]) == ("TrainingError", "the loss is not finite")
    spec = load_study(small)
    assert [state.state for state in study_progress(spec, make_cells(spec), result.folder)] == ["done", "failed"]
    assert collect([result.folder.path]).missing == ["vbpr"]
    mended = study(small, out=tmp_path / "study", resume=True, workers=0)
    assert mended.failed == []
    assert mended.folder.failures() == {}


def test_content_that_cannot_be_made_fails_all_cells_that_need_it_once(
    conf: Conf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    original = tasks_module.load_features

    def broken(plan: Any, *arguments: Any, **named: Any) -> Any:
        if plan.encoder is None:
            return original(plan, *arguments, **named)
        calls.append(1)
        raise DataError("the disk is full")

    monkeypatch.setattr(tasks_module, "load_features", broken)
    result = study(conf, out=tmp_path / "study", workers=0)
    assert len(calls) == 1
    spec = load_study(conf)
    found = {
        state.cell.name: (state.state, state.message) for state in study_progress(spec, make_cells(spec), result.folder)
    }
    assert {state for name, (state, _) in found.items() if name.endswith("vbpr")} == {"failed"}
    assert found["seed-1_both_vbpr"][1] == "DataError: the disk is full"


def test_an_error_that_nobody_foresaw_is_recorded_before_it_ends_the_process(
    conf: Conf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*arguments: Any, **named: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(tasks_module, "run", broken)
    one = {"data": conf["data"], "split": conf["split"], "axes": {"recommender": ["popular"]}}
    with pytest.raises(ZeroDivisionError):
        study(one, out=tmp_path / "study", workers=0)
    failure = StudyFolder(tmp_path / "study").failures()["cell-popular"]
    assert (failure["error"], failure["message"]) == ("ZeroDivisionError", "by zero")
    assert "in broken" in failure["traceback"]


@pytest.mark.long
def test_content_hidden_at_test_changes_the_test_and_nothing_before(conf: Conf, tmp_path: Path) -> None:
    recommender = {"name": "vbpr", "dim": 4, "content_dim": 4}
    train = {**conf["train"], "epochs": 30, "learning_rate": 0.02}
    axes = {"hide_text_test": [0, 0.9]}
    result = study(
        conf | {"axes": axes, "recommender": recommender, "train": train},
        out=tmp_path / "study",
        workers=0,
    )
    whole, hidden = (read_json(result.folder.cell(name).metrics) for name in result.done)
    assert whole["valid"] == hidden["valid"]
    assert whole["test"] != hidden["test"]
    bundles = [Bundle.load(result.folder.cell(name).path) for name in result.done]
    users = list(bundles[0].users[:5])
    assert bundles[0].recommend(users, 5) == bundles[1].recommend(users, 5)  # a bundle serves with all content


@pytest.mark.long
def test_a_searched_design_runs_under_all_seeds_with_what_the_first_found(conf: Conf, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    axes = {"seed": [0, 1], "recommender": {"BPR": {"recommender.name": "bpr", "search": {"recommender.dim": [2, 8]}}}}
    kept = {key: conf[key] for key in ("data", "split", "train", "evaluate")}
    searched = kept | {"search": {"budget": 2, "sampler": "grid"}, "axes": axes}
    result = study(searched, out=tmp_path / "study", workers=0)
    best = read_json(tmp_path / "study" / "searches" / "bpr" / "tuned.json")["best"]
    for name in result.done:
        text = result.folder.cell(name).experiment.read_text()
        assert f"dim = {best['recommender.dim']}" in text


def test_estimates_are_of_done_cells_where_there_are_some_and_probed_elsewhere(conf: Conf, done: StudyResult) -> None:
    spec = load_study(conf)
    cells = make_cells(spec)
    measured = StudyEstimates(spec, seconds_by_design(study_progress(spec, cells, done.folder)))
    assert measured.is_measured(cells[1])
    assert measured.cell(cells[1]).seconds == pytest.approx(
        np.mean([read_json(done.folder.cell(f"seed-{s}_both_vbpr").metrics)["cost"]["seconds"] for s in (0, 1)])
    )
    trials = StudyEstimates(spec, {})
    assert not trials.is_measured(cells[1])
    assert 1 < trials.cell(cells[1]).seconds < 60


def test_a_probe_computes_with_the_threads_of_a_run(conf: Conf, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine more threads than a run has took 11 minutes for what takes 20 seconds."""
    before, seen = torch.get_num_threads(), list[int]()

    def trial(*_: object) -> Estimate:
        seen.append(torch.get_num_threads())
        return Estimate("training")

    monkeypatch.setattr("lmm4rec.experiments.estimate.study.estimate_training", trial)
    spec = load_study(conf | {"study": {"metric": "recall@5", "threads": before + 1}})
    StudyEstimates(spec, {}).cell(make_cells(spec)[1])
    assert (seen, torch.get_num_threads()) == ([before + 1], before)


@pytest.mark.long
def test_the_report_says_what_the_runs_say(done: StudyResult, tmp_path: Path) -> None:
    page = write_study_report([done.folder.path], tmp_path / "report").read_text(encoding="utf-8")
    names = {str(path.relative_to(tmp_path / "report")) for path in (tmp_path / "report").rglob("*.*")}
    assert {
        "card.md",
        "report.html",
        "tables/results.tex",
        "tables/tests.md",
        "tables/details.md",
        "data/cells.csv",
        "data/designs.csv",
    } <= names
    assert {"figures/quality_by_modalities.png", "figures/learning_curves.svg", "figures/seeds.png"} <= names
    cells = pl.read_parquet(tmp_path / "report" / "data" / "cells.parquet")
    by_name = {row["cell"]: row for row in cells.iter_rows(named=True)}
    for name in done.done:
        metrics = read_json(done.folder.cell(name).metrics)
        assert by_name[name]["test.recall@5"] == metrics["test"]["recall@5"]
        assert by_name[name]["cost.parameters"] == metrics["cost"]["parameters"]
    users = pl.read_parquet(tmp_path / "report" / "data" / "users.parquet").filter(part="test", cell="popular")
    assert users["recall@5"].mean() == pytest.approx(by_name["popular"]["test.recall@5"])
    assert pl.read_csv(tmp_path / "report" / "data" / "users.csv").height == 5 * 2 * 36
    seeds = [by_name[f"seed-{seed}_both_vbpr"]["test.recall@5"] for seed in (0, 1)]
    assert f"{np.mean(seeds):.4f} ± {np.std(seeds, ddof=1):.4f}" in (
        tmp_path / "report" / "tables" / "results.md"
    ).read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert 'src="http' not in page
    assert page.count("data:image/svg+xml") >= 4
    assert "side by side" in page


def test_comparisons_are_those_of_the_users_values(done: StudyResult) -> None:
    collection = collect([done.folder.path])
    (group,) = collection.groups
    findings = compare_with_reference(group, collection)
    assert len(findings) == len(group.designs) - 1 == 2
    one = findings[0]
    designs = one.first, one.second
    deterministic = designs[0].is_deterministic, designs[1].is_deterministic
    assert sorted(deterministic) == [False, False] or "popular" in {d.axes["recommender"].lower() for d in designs}
    expected = compare(*(design.per_user("recall@5") for design in designs), deterministic=deterministic)
    assert one.comparison == expected
    assert one.t_holm >= expected.t_p
    (shuffled,) = [f for f in compare_along_axes(group, collection) if f.family == "camps: modalities"]
    assert (shuffled.first.axes["modalities"], shuffled.second.axes["modalities"]) == ("shuffled", "both")


def test_a_reference_that_is_not_there_is_named(done: StudyResult, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"the reference 'Populer' is no design of camps\. Did you mean 'popular'"):
        write_study_report([done.folder.path], tmp_path, reference="Populer")


def test_a_reference_is_named_as_in_the_report(done: StudyResult, conf: Conf) -> None:
    """Each name that a design has in the report is one that a conf can give; the study is not begun here."""
    (group,) = collect([done.folder.path]).groups
    for name in names_of_designs(group):
        spec = load_study(conf, {"study.reference": name})
        check_reference(spec, make_cells(spec), done.folder)


def test_a_study_whose_cells_lack_its_metric_says_so(done: StudyResult, tmp_path: Path) -> None:
    folder = StudyFolder(Path(shutil.copytree(done.folder.path, tmp_path / "study")))
    record = read_json(folder.record)
    write_json(folder.record, record | {"options": record["options"] | {"metric": "recall@7"}})
    with pytest.raises(DataError, match=r"run 'popular' has no valid 'recall@7'.* it has: .*Set study\.metric to one"):
        collect([folder.path])


def test_any_runs_can_be_reported_on(done: StudyResult, tmp_path: Path) -> None:
    runs = [done.folder.cell(name).path for name in ("popular", "seed-0_both_vbpr", "seed-1_both_vbpr")]
    collection = collect(runs)
    assert [design.label for design in collection.designs] == ["Popular", "VBPR"]
    assert [len(design.runs) for design in collection.designs] == [1, 2]
    assert [len(design.runs) for design in collect([done.folder.path / "cells"]).designs] == [1, 2, 2]
    with pytest.raises(CheckpointError, match=r"there is no study and no finished run in [^,]*nowhere$"):
        collect([done.folder.path / "cells", tmp_path / "nowhere"])


@pytest.mark.long
def test_a_run_is_reproduced_and_a_changed_one_is_caught(done: StudyResult, tmp_path: Path) -> None:
    folder = done.folder.cell("seed-0_both_vbpr").path
    found = reproduce(folder, out=tmp_path / "again")
    assert found.succeeded
    assert found.largest == 0.0
    assert found.compared == 2 * 2 * 6  # valid and test, two ks, six metrics
    assert read_json(tmp_path / "again" / "reproduction.json")["succeeded"] is True
    lying = tmp_path / "lying"
    lying.mkdir()
    for name in ("experiment.toml", "environment.json"):
        (lying / name).write_text((folder / name).read_text())
    metrics = read_json(folder / "metrics.json")
    metrics["test"]["recall@5"] += 0.01
    (lying / "metrics.json").write_text(json.dumps(metrics))
    caught = reproduce(lying)
    assert caught.out == tmp_path / "lying-again"
    assert not caught.succeeded
    assert [d.name for d in caught.differences] == ["test.recall@5"]
    assert caught.largest == pytest.approx(0.01)
    assert reproduce(lying, tolerance=0.02).succeeded
