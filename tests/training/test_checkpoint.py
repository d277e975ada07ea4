"""When a training state is saved."""

from __future__ import annotations

from pathlib import Path

import pytest

import lmm4rec.training.state as checkpoint_module
from lmm4rec.training.history import History
from lmm4rec.training.state import Checkpoint, TrainingState


class SlowState(TrainingState):
    """A state that takes some seconds of its own clock to write."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.saved, self.history = seconds, 0.0, list[float](), History()

    def save(self, path: Path) -> None:
        self.saved.append(self.now)
        self.now += self.seconds

    def monotonic(self) -> float:
        return self.now


def saved(monkeypatch: pytest.MonkeyPatch, path: Path | None, *, seconds: float, every_s: float) -> list[float]:
    """The times at which the state is saved in 20 epochs of 10 seconds."""
    state = SlowState(seconds)
    monkeypatch.setattr(checkpoint_module, "time", state)
    checkpoint = Checkpoint.resume(state, path, every_s=every_s)
    for epoch in range(1, 21):
        state.now += 10
        state.history.rows.append({"epoch": epoch})
        writes = len(state.saved)
        checkpoint.save(last=epoch == 20)
        assert (checkpoint.epoch == epoch) == (len(state.saved) > writes)
    return state.saved


def test_a_state_is_saved_when_the_time_has_passed_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert saved(monkeypatch, tmp_path / "state", seconds=0, every_s=25.0) == [30, 60, 90, 120, 150, 180, 200]
    assert len(saved(monkeypatch, tmp_path / "state", seconds=0, every_s=0.0)) == 20
    assert saved(monkeypatch, None, seconds=0, every_s=0.0) == []


def test_writing_takes_at_most_a_tenth_of_the_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A write of 7 seconds after 30, then only every 70 seconds."""
    assert saved(monkeypatch, tmp_path / "state", seconds=7, every_s=25.0) == [30, 107, 184, 221]


def test_it_says_from_where_training_can_be_resumed(tmp_path: Path) -> None:
    state = SlowState(0)
    checkpoint = Checkpoint(state, tmp_path / "state", every_s=0.0)
    assert "No state was saved yet" in str(checkpoint)
    state.history.rows += [{"epoch": 1}, {"epoch": 2}, {"epoch": 3}]
    checkpoint.save(last=False)
    assert f"after epoch 3, is in {tmp_path / 'state'}" in str(checkpoint)
