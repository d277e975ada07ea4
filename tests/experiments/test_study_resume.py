"""Resumed studies, which only grow, and what a study refuses before any work."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from lmm4rec.core.errors import ConfigError
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.study import StudyResult, study

Conf = dict[str, Any]
COUNTED: Conf = {
    "title": "small",
    "data": {"name": "toyshop", "users": 40, "items": 40, "interactions": 400},
    "train": {"epochs": 1},
    "axes": {"seed": [0], "recommender": {"BPR": {"recommender.name": "bpr", "recommender.dim": 4}}},
}


@pytest.mark.long
def test_a_resumed_study_has_one_conf_for_all_its_cells(tmp_path: Path) -> None:
    begun = study(COUNTED, out=tmp_path / "study", workers=0)
    before = begun.folder.record.read_bytes()
    changed = {"train.epochs": 5, "train.learning_rate": 0.01, "axes.seed": [0, 1]}
    message = r"cell 'seed-0_bpr' was begun with another conf \(train\.epochs was 1, now 5; train\.learning_rate was"
    with pytest.raises(ConfigError, match=message):
        study(COUNTED, changed, out=begun.folder.path, resume=True, workers=0)
    assert begun.folder.record.read_bytes() == before
    searched = {"search.budget": 2, "search.space": {"recommender.dim": [2, 4]}}
    with pytest.raises(
        ConfigError, match=r"'seed-0_bpr' was begun, and the search of recommender\.dim .* not finished"
    ):
        study(COUNTED, searched, out=begun.folder.path, resume=True, workers=0)
    grown = study(COUNTED, {"axes.seed": [1, 0]}, out=begun.folder.path, resume=True, workers=0)
    assert grown.done == ["seed-1_bpr", "seed-0_bpr"]


SEARCHED: Conf = COUNTED | {"search": {"budget": 2, "sampler": "grid", "space": {"recommender.dim": [2, 4]}}}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    """A study whose one cell runs with what a search chose."""
    pytest.importorskip("optuna")
    return study(SEARCHED, out=tmp_path_factory.mktemp("searched") / "study", workers=0)


@pytest.mark.long
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"search.budget": 3}, r"search\.budget was 2, now 3"),
        (
            {"search.seed": 1, "search.sampler": "random"},
            r"search\.sampler was 'grid', now 'random'; search\.seed was 0",
        ),
        ({"search.space": {"recommender.dim": [2, 8]}}, r"search\.space\.recommender\.dim was \[2, 4\], now \[2, 8\]"),
        ({"train.epochs": 2}, r"train\.epochs was 1, now 2"),
    ],
)
def test_a_resumed_study_has_the_searches_of_its_conf(
    tmp_path: Path, changed: Conf, message: str, searched: StudyResult
) -> None:
    folder = StudyFolder(Path(shutil.copytree(searched.folder.path, tmp_path / "study")))
    with pytest.raises(ConfigError, match=rf"the search of 'bpr' was begun with another conf \({message}"):
        study(SEARCHED, changed, out=folder.path, resume=True, workers=0)
    stamp = folder.cell("seed-0_bpr").metrics.stat().st_mtime_ns
    grown = study(SEARCHED, {"axes.seed": [1, 0]}, out=folder.path, resume=True, workers=0)
    assert (grown.done, grown.failed) == (["seed-1_bpr", "seed-0_bpr"], [])
    assert folder.cell("seed-0_bpr").metrics.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("name", ["BRP", "seed-0_bpr"])
def test_a_reference_that_no_cell_has_is_refused_before_any_work(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"study\.reference = '{name}' is no design of the study.* There are: BPR"):
        study(COUNTED, {"study.reference": name}, out=tmp_path / "study", workers=0)
    assert not (tmp_path / "study").exists()
