"""The cost of a run that was interrupted is that of all its parts."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmm4rec.core.files import read_json
from lmm4rec.experiments import environment
from lmm4rec.experiments.environment import Cost


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that a test sets."""
    now = [100.0]
    monkeypatch.setattr(environment.time, "monotonic", lambda: now[0])
    return now


def test_a_resumed_run_adds_to_what_it_took_before(tmp_path: Path, clock: list[float]) -> None:
    file = tmp_path / "cost.json"
    first = Cost(file)
    with first.phase("data"):
        clock[0] += 3
    with first.phase("train"):
        clock[0] += 10
        first.save()  # at the end of an epoch, within the phase
    clock[0] += 1000  # nobody computes
    second = Cost(file)
    clock[0] += 2
    with second.phase("train"):
        clock[0] += 5
    summary = second.summary()
    assert (summary["seconds"], summary["data_seconds"], summary["train_seconds"]) == (20.0, 3.0, 15.0)


def test_phases_within_a_phase_do_not_count_it_again(clock: list[float]) -> None:
    cost = Cost()
    with cost.phase("train"):
        for _ in range(3):
            clock[0] += 2
            with cost.phase("validate"):
                clock[0] += 1
    summary = cost.summary()
    assert (summary["seconds"], summary["train_seconds"], summary["validate_seconds"]) == (9.0, 9.0, 3.0)


def test_a_killed_run_loses_what_came_after_the_last_saving(tmp_path: Path, clock: list[float]) -> None:
    file = tmp_path / "cost.json"
    first = Cost(file)
    with first.phase("train"):
        clock[0] += 7
        first.save()
        clock[0] += 0.5
        first.save()  # too soon: nothing is written
        assert read_json(file)["seconds"] == {"train": 7.0}
        assert Cost(file).summary()["seconds"] == 7.0


def test_the_peak_is_the_highest_of_all_parts(
    tmp_path: Path, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    peaks = iter((900.0, 300.0))
    monkeypatch.setattr(environment, "_peak_mb", lambda: next(peaks))
    first = Cost(tmp_path / "cost.json")
    clock[0] += 2
    first.save()
    assert Cost(tmp_path / "cost.json").summary()["peak_memory_mb"] == 900.0
