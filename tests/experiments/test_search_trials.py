"""Trials of a search: those that fail or are interrupted, and those that several workers try at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lmm4rec.core.errors import ConfigError, LMM4RecError
from lmm4rec.core.files import read_json
from lmm4rec.distributed.pool import SerialPool, WorkerOptions
from lmm4rec.evaluation.ranking import RankingError
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.search import trials as trials_module
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.search.space import grid
from lmm4rec.experiments.search.tune import tune

pytest.importorskip("optuna")

CONF: dict[str, Any] = {
    "title": "tiny",
    "data": {"name": "toyshop", "users": 40, "items": 40, "interactions": 400},
    "recommender": {"name": "sasrec", "dim": 4, "length": 5},
    "train": {"epochs": 1},
}
Use = Callable[[Callable[[Path], float]], None]


def options(space: dict[str, Any], **keys: Any) -> SearchOptions:
    return SearchOptions.of({"sampler": "grid", "pruner": "none", "space": space, **keys})


@pytest.fixture
def objective(monkeypatch: pytest.MonkeyPatch) -> Use:
    def use(value_of: Callable[[Path], float]) -> None:
        def validate(plan: Plan, place: Path, data: DataCache, callbacks: Sequence[Any] = ()) -> float:
            return value_of(place)

        monkeypatch.setattr(trials_module, "validate_setting", validate)

    return use


def failing_first(error: BaseException, tried: list[Path]) -> Callable[[Path], float]:
    """An objective that fails for the first setting; `tried` gets the folder of each."""

    def value(place: Path) -> float:
        tried.append(place)
        if len(tried) == 1:
            raise error
        return 0.5

    return value


@pytest.mark.long
def test_values_that_do_not_go_together_count_and_do_not_stop_the_search(tmp_path: Path) -> None:
    space = {"recommender.dim": [6, 4], "recommender.heads": [4, 1]}  # 6 numbers are not shared by 4 heads
    found = tune(CONF, options(space), tmp_path)
    assert found.trials == 4
    failed, *others = read_json(tmp_path / "tuned.json")["trials"]
    assert failed["error"] == "recommender.dim = 6 must be a multiple of recommender.heads = 4"
    assert all("error" not in trial for trial in others)


@pytest.mark.long
@pytest.mark.parametrize("error", [ConfigError("wide"), RankingError("NaN")])
def test_a_setting_that_cannot_be_ranked_counts(tmp_path: Path, objective: Use, error: LMM4RecError) -> None:
    objective(failing_first(error, []))
    assert tune(CONF, options({"recommender.dim": [4, 6]}), tmp_path).best == {"recommender.dim": 6}


@pytest.mark.long
def test_a_setting_that_two_workers_try_at_a_time_has_two_folders(tmp_path: Path, objective: Use) -> None:
    places: list[Path] = []
    objective(lambda place: places.append(place) or 0.5)
    with SerialPool(WorkerOptions()) as pool:
        tune(CONF, options({"recommender.dim": [4]}, sampler="random", budget=2), tmp_path, pool=pool)
    assert len(set(places)) == 2


@pytest.mark.long
def test_an_interrupted_setting_goes_on_in_its_folder_and_counts_once(tmp_path: Path, objective: Use) -> None:
    places: list[Path] = []
    objective(failing_first(KeyboardInterrupt(), places))
    wanted = options({"recommender.dim": [4, 6]})
    with pytest.raises(KeyboardInterrupt):
        tune(CONF, wanted, tmp_path)
    assert tune(CONF, wanted, tmp_path).trials == 2
    assert places[0] == places[1] != places[2]
    assert (tmp_path / "best.conf").read_text(encoding="utf-8").startswith("# The best of 2 settings by validation")


def test_the_last_value_of_a_stepped_range_is_its_end() -> None:
    space = {"recommender.dropout": {"low": 0.1, "high": 0.3, "step": 0.1}}
    assert [setting["recommender.dropout"] for setting in grid(space)] == [0.1, 0.2, 0.3]


@pytest.mark.long
def test_whole_ends_of_a_range_leave_out_no_fraction(tmp_path: Path, objective: Use) -> None:
    """Whole numbers alone are tried of keys that take no others, and of ranges with a step."""
    objective(lambda place: 0.5)
    space = {
        "recommender.calibration": {"low": 0, "high": 1},
        "recommender.dim": {"low": 2, "high": 9},
        "train.clip_norm": {"low": 0, "high": 4, "step": 2},
    }
    tune(CONF, options(space, sampler="random", budget=5), tmp_path)
    settings = [trial["setting"] for trial in read_json(tmp_path / "tuned.json")["trials"]]
    assert all(0 < setting["recommender.calibration"] < 1 for setting in settings)
    assert all(isinstance(setting["recommender.dim"], int) for setting in settings)
    assert {setting["train.clip_norm"] for setting in settings} <= {0, 2, 4}
