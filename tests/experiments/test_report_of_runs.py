"""Reports of run folders: which runs are seeds of one design, by which metric they rank, and what is compared."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from lmm4rec.core.errors import DataError
from lmm4rec.experiments.report.collect import collect
from lmm4rec.experiments.report.finished_runs import FinishedRun, comparable_groups
from lmm4rec.experiments.report.study_report import write_study_report
from lmm4rec.experiments.run import run

DATA = {"name": "toyshop", "users": 40, "items": 40, "interactions": 400}


@pytest.mark.long
def test_runs_with_other_keys_are_no_seeds_of_one_design(tmp_path: Path) -> None:
    for seed, dim in enumerate((4, 4, 8, 8)):
        keys = {"recommender.name": "bpr", "recommender.dim": dim, "train.seed": seed}
        run({"data": DATA, "train": {"epochs": 1}}, keys, out=tmp_path / f"run-{seed}")
    collection = collect([tmp_path])
    assert [(d.label, len(d.runs)) for d in collection.designs] == [("recommender.dim 4", 2), ("recommender.dim 8", 2)]
    assert collection.axes["recommender.dim"] == ["4", "8"]
    write_study_report([tmp_path], tmp_path / "report")
    assert "recommender.dim 8" in (tmp_path / "report" / "tables" / "tests.md").read_text(encoding="utf-8")
    run(tmp_path / "run-0" / "experiment.toml", out=tmp_path / "run-4")
    assert len(collect([tmp_path]).designs) == 5  # a run that is there twice is not two seeds either


@pytest.mark.long
def test_a_report_ranks_by_a_metric_that_all_runs_have(tmp_path: Path) -> None:
    conf = {"data": DATA}
    for name, model, ks in (("a", "popular", [5, 20]), ("b", "itemknn", [5, 10]), ("c", "itemknn", [10])):
        run(conf, {"recommender.name": model, "evaluate.ks": ks}, out=tmp_path / name)
    assert collect([tmp_path / "a", tmp_path / "b"]).metric == "recall@5"
    write_study_report([tmp_path / "a", tmp_path / "b"], tmp_path / "report")
    with pytest.raises(DataError, match=r"no metric in common .* a has recall@5, .*; c has recall@10, "):
        collect([tmp_path / "a", tmp_path / "c"])


@pytest.mark.long
def test_without_a_validation_part_no_design_is_the_best_by_it(tmp_path: Path) -> None:
    for name in ("popular", "itemknn"):
        run({"data": DATA, "split": {"valid": 0.0}}, {"recommender.name": name}, out=tmp_path / name)
    page = write_study_report([tmp_path / "popular", tmp_path / "itemknn"], tmp_path / "report")
    text = page.read_text(encoding="utf-8")
    assert "toyshop: Popular, the first design, reaches Recall@20" in text
    assert "nothing was held out for validation, so none is chosen." in text
    assert "Nothing was held out for validation: all epochs were trained, and the last weights were kept;" in text
    card = (tmp_path / "report" / "card.md").read_text(encoding="utf-8")
    assert "**Chosen by**: nothing: no validation part, the last epoch of every run" in card
    assert "by validation" not in text + card


@pytest.mark.long
def test_with_one_user_in_the_test_part_there_are_means_and_no_tests(tmp_path: Path) -> None:
    """Only the user with four interactions has one of them in the test part."""
    (tmp_path / "data").mkdir()
    pairs = [("u0", f"i{item}") for item in range(4)] + [(f"u{u}", f"i{u + d}") for u in range(1, 9) for d in (0, 1)]
    log = pl.DataFrame(pairs, schema=["user_id", "item_id"], orient="row")
    log.write_csv(tmp_path / "data" / "interactions.csv")
    conf = {"data": {"name": "table", "path": str(tmp_path / "data")}, "train": {"epochs": 1}}
    for name, model, seed in (("bpr-0", "bpr", 0), ("bpr-1", "bpr", 1), ("popular", "popular", 0)):
        run(conf, {"recommender.name": model, "train.seed": seed, "split.test": 0.2}, out=tmp_path / name)
    page = write_study_report([tmp_path / name for name in ("bpr-0", "bpr-1", "popular")], tmp_path / "report")
    text = page.read_text(encoding="utf-8")
    assert "data: only one user has interactions in the test part, so" in text
    assert "intervals cover" not in text
    tables = tmp_path / "report" / "tables"
    assert "Popular" in (tables / "results.md").read_text(encoding="utf-8")
    assert (tables / "tests.md").read_text(encoding="utf-8") == ""
    assert pl.read_csv(tmp_path / "report" / "data" / "users.csv").filter(part="test")["user"].unique().to_list() == [
        "u0"
    ]


def test_groups_are_named_by_what_tells_them_apart() -> None:
    """Warm and cold items have different splits, so they are never compared; cold ones compete among themselves."""

    def finished(items: str, recommender: str, candidates: str) -> FinishedRun:
        plan = SimpleNamespace(evaluate=SimpleNamespace(protocol="strict", candidates=candidates))
        data = SimpleNamespace(name="shop", split_fingerprint=items)
        result: Any = SimpleNamespace(measured=SimpleNamespace(data=data), plan=plan)
        return FinishedRun("x", {"items": items, "recommender": recommender}, result)

    runs = [finished(*one) for one in (("warm", "VBPR", "all"), ("warm", "BPR", "all"), ("cold", "VBPR", "cold"))]
    groups = comparable_groups(runs)
    assert [group.title for group in groups] == [
        "shop, warm items, ranked among all items",
        "shop, cold items, ranked among cold items",
    ]
    assert [design.label for group in groups for design in group.designs] == ["VBPR", "BPR", "VBPR"]
