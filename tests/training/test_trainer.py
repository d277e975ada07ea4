"""The loop: it minimizes, stops when it should, and goes on after a kill as if nothing had happened."""

from __future__ import annotations

import doctest
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

import lmm4rec.training.callbacks as callbacks_module
import lmm4rec.training.trainer as trainer_module
from fit_callbacks import KillAfter, KilledError, Recorder
from lmm4rec.core.errors import CheckpointError, TrainingError
from lmm4rec.training.callbacks import Callback
from lmm4rec.training.history import History, Row
from lmm4rec.training.lr_schedule import LearningRateSchedule, ParameterGroup
from lmm4rec.training.objective import Objective
from lmm4rec.training.trainer import Trainer


class Line(Objective):
    """Least squares for y = 3x - 1, with noise from the passed generator."""

    def __init__(self) -> None:
        super().__init__()
        self.slope, self.offset = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def losses(self, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        noise = 0.01 * torch.randn(len(batch), generator=generator)
        return {"squares": (self.slope * batch + self.offset - (3 * batch - 1 + noise)).square().mean()}


class Points:
    def __len__(self) -> int:
        return 4

    def epoch(self, generator: torch.Generator) -> Iterator[Tensor]:
        for _ in range(4):
            yield torch.rand(32, generator=generator)


def trainer(**options: Any) -> Trainer:
    defaults: dict[str, Any] = {"epochs": 30, "learning_rate": 0.1, "metric": "score", "device": "cpu"}
    return Trainer(**(defaults | options))


def score(line: Line) -> Callable[[], dict[str, float]]:
    return lambda: {"score": -abs(line.slope.item() - 3)}


def fit(line: Line, *, state: Path | None = None, **options: Any) -> History:
    return trainer(**options).fit(line, Points(), score(line), state_file=state)


@pytest.mark.parametrize(("is_solved", "unit"), [(False, "batch"), (True, "sweep")])
def test_progress_counts_batches_or_sweeps(monkeypatch: pytest.MonkeyPatch, is_solved: bool, unit: str) -> None:
    class Solved(Line):
        def sweep(self, generator: torch.Generator) -> Mapping[str, Tensor]:
            return self.losses(torch.ones(1), generator)

    units, shown = list[str](), trainer_module.progress
    monkeypatch.setattr(Solved, "is_solved", is_solved)
    monkeypatch.setattr(trainer_module, "progress", lambda **more: units.append(more["unit"]) or shown(**more))
    fit(Solved(), epochs=1)
    assert units == [unit]


@pytest.mark.long
def test_it_minimizes() -> None:
    line = Line()
    history = fit(line, epochs=150)
    assert line.slope.item() == pytest.approx(3, abs=0.05)
    assert history.rows[-1]["loss"] < 0.01 * history.rows[0]["loss"]


def test_the_best_weights_stay() -> None:
    line = Line()
    values = iter([1.0, 5.0, 2.0, 3.0])
    slopes: list[float] = []

    def validate() -> dict[str, float]:
        slopes.append(line.slope.item())
        return {"score": next(values)}

    history = trainer(epochs=4).fit(line, Points(), validate)
    assert (history.best_epoch, history.best) == (2, 5.0)
    assert line.slope.item() == slopes[1]


def test_without_validation_all_epochs_are_trained_and_the_last_weights_stay() -> None:
    line, other = Line(), Line()
    history = trainer(epochs=4, patience=1).fit(line, Points(), None)
    assert (len(history.rows), history.best_epoch) == (4, 0)
    values = iter([1.0, 2.0, 3.0, 4.0])  # the last epoch is the best
    trainer(epochs=4).fit(other, Points(), lambda: {"score": next(values)})
    assert line.slope.item() == other.slope.item()


def test_patience_counts_evaluations_without_improvement_strictly() -> None:
    line = Line()
    values = iter([1.0, 2.0, 2.0, 2.0, 2.0, 9.0])
    history = trainer(epochs=10, patience=3, evaluate_every=2).fit(line, Points(), lambda: {"score": next(values)})
    assert len(history.rows) == 10  # evaluations after epochs 2, 4 (best), 6, 8 and 10: the third without improvement
    assert history.best_epoch == 4


@pytest.mark.long
@pytest.mark.parametrize("weight_average", [0.0, 0.8])
@pytest.mark.parametrize("killed_after", [1, 7, 29])
def test_resuming_after_a_kill_ends_with_the_same_numbers(
    tmp_path: Path, killed_after: int, weight_average: float
) -> None:
    options: dict[str, Any] = {"checkpoint_every_s": 0.0, "weight_average": weight_average}
    whole = Line()
    expected = fit(whole, **options)
    state = tmp_path / "state.safetensors"

    broken = Line()
    with pytest.raises(KilledError):
        trainer(**options).fit(broken, Points(), score(broken), state_file=state, callbacks=[KillAfter(killed_after)])
    resumed = Line()
    seen = Recorder()
    history = trainer(**options).fit(resumed, Points(), score(resumed), state_file=state, callbacks=[seen])
    assert history.rows == expected.rows == seen.rows
    assert torch.equal(resumed.slope, whole.slope)
    assert history.best_epoch == expected.best_epoch


def test_a_damaged_state_file_is_named(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    fit(Line(), state=state, epochs=2)
    state.write_bytes(state.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"state\.safetensors cannot be read"):
        fit(Line(), state=state, epochs=4)


def test_a_state_file_of_another_model_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    fit(Line(), state=state, epochs=2)
    other = Line()
    other.extra = nn.Parameter(torch.zeros(3))
    with pytest.raises(CheckpointError, match="belongs to another model"):
        fit(other, state=state, epochs=4)


def test_a_loss_that_is_not_finite_stops_with_step_and_terms() -> None:
    line = Line()
    with torch.no_grad():
        line.offset.fill_(float("inf"))
    with pytest.raises(TrainingError, match=r"epoch 1, step 0: squares = inf"):
        fit(line)


class Cliff(Line):
    """From some step on the loss is a finite number whose gradient is not: the root of 0."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.left = steps

    def losses(self, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        self.left -= 1
        terms = dict(super().losses(batch, generator))
        return terms if self.left >= 0 else terms | {"root": (self.slope * 0).sqrt()}


@pytest.mark.parametrize("clip_norm", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_stops_and_names_what_is_left(tmp_path: Path, clip_norm: float) -> None:
    """Four batches an epoch: step 9 is in the third, and the weights are those before it."""
    state = tmp_path / "state.safetensors"
    with pytest.raises(TrainingError, match=r"the gradient is not finite in epoch 1, step 2: .*root = 0\. No state"):
        fit(Cliff(2), state=state, clip_norm=clip_norm)
    line = Cliff(9)
    with pytest.raises(TrainingError, match=r"in epoch 3, step 9: .*root = 0\. The last good state, after epoch 2, is"):
        fit(line, state=state, clip_norm=clip_norm, checkpoint_every_s=0.0)
    assert line.slope.isfinite()
    healthy = Line()
    assert len(fit(healthy, state=state, clip_norm=clip_norm).rows) == 30


def test_a_metric_that_validation_does_not_give_is_an_error() -> None:
    line = Line()
    with pytest.raises(TrainingError, match="no 'recall@20'"):
        fit(line, metric="recall@20")


def test_schedule_warms_up_and_decays() -> None:
    line = Line()
    history = fit(line, epochs=10, schedule="linear", warmup=0.2, learning_rate=1.0)
    rates = [row["learning_rate"] for row in history.rows]
    assert rates[1] == pytest.approx(1.0)
    assert rates == sorted(rates[:2]) + sorted(rates[2:], reverse=True)
    assert rates[-1] == pytest.approx(1 / 32)  # the last of 32 steps after the warm-up


def test_clipping_bounds_the_step() -> None:
    """With plain weights and a norm of 1e-12 Adam's step has nothing left but its epsilon."""
    free, clipped = Line(), Line()
    fit(free, epochs=1)
    fit(clipped, epochs=1, clip_norm=1e-12)
    assert abs(clipped.slope.item()) < 1e-3 < abs(free.slope.item())


class Against(Line):
    """The offset's gradient is 1e12 times as large as the slope's; `apart` clips each by itself."""

    def __init__(self, *, apart: bool) -> None:
        super().__init__()
        self.apart = apart

    def losses(self, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        return {"slope": -self.slope, "offset": -1e12 * self.offset}

    def clipped_together(self) -> tuple[Sequence[nn.Parameter], ...]:
        return ((self.slope,), (self.offset,)) if self.apart else super().clipped_together()


def test_parts_are_clipped_each_by_its_norm() -> None:
    """Adam's step is the rate, 0.1, but where the gradient, here 1e-12, is far below its epsilon."""
    together, apart = Against(apart=False), Against(apart=True)
    for line in (together, apart):
        fit(line, epochs=1, clip_norm=1.0)
        assert line.offset.item() == pytest.approx(0.4, rel=1e-4)
    assert abs(together.slope.item()) < 1e-3
    assert apart.slope.item() == pytest.approx(0.4, rel=1e-4)


class Apart(Line):
    """The offset has rates of its own, and waits for two epochs."""

    def groups(self) -> tuple[ParameterGroup, ...]:
        return (
            ParameterGroup(
                "offset", (self.offset,), LearningRateSchedule(learning_rate=0.5, schedule="linear", warmup=0.5), 2
            ),
        )

    def losses(self, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        waiting = self.offset.detach() == 0 and self.steps < 8
        self.steps += 1
        return super().losses(batch, generator) if not waiting else {"squares": (self.slope * batch).square().mean()}

    steps = 0


def test_a_group_has_rates_of_its_own_and_begins_at_its_step() -> None:
    """4 batches an epoch: 8 steps of waiting, then 8 of its own, of which 4 warm up."""
    line = Apart()
    history = fit(line, epochs=4, learning_rate=0.1)
    assert [row["learning_rate"] for row in history.rows] == [0.1] * 4
    assert [row["learning_rate.offset"] for row in history.rows] == pytest.approx([0, 0, 0.5, 0.5 * (1 - 3 / 4)])


def test_a_resumed_group_goes_on_where_it_was(tmp_path: Path) -> None:
    """Killed before its first step, when the optimizer has no state of it yet."""
    state = tmp_path / "state.safetensors"
    whole = Apart()
    expected = fit(whole, epochs=4)

    broken = Apart()
    with pytest.raises(KilledError):
        trainer(epochs=4, checkpoint_every_s=0.0).fit(
            broken, Points(), score(broken), state_file=state, callbacks=[KillAfter(1)]
        )
    resumed = Apart()
    resumed.steps = 4
    assert fit(resumed, epochs=4, state=state, checkpoint_every_s=0.0).rows == expected.rows
    assert torch.equal(resumed.offset, whole.offset)


class Fixed(Line):
    """A weight that does not train."""

    def __init__(self) -> None:
        super().__init__()
        self.fixed = nn.Parameter(torch.full((100_000,), 2.0), requires_grad=False)


def test_what_does_not_train_is_in_no_checkpoint(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    fit(Fixed(), state=state, epochs=2)
    assert state.stat().st_size < 50_000
    resumed = Fixed()
    fit(resumed, state=state, epochs=3)
    assert torch.equal(resumed.fixed, torch.full((100_000,), 2.0))


def test_a_state_file_holds_the_tensors_and_facts_that_later_versions_read(tmp_path: Path) -> None:
    state = tmp_path / "state.safetensors"
    history = fit(Line(), state=state, epochs=2)
    with safe_open(state, framework="pt") as file:
        names, facts = set(file.keys()), json.loads(file.metadata()["facts"])
    moments = {f"optimizer.{number}.{name}" for number in (0, 1) for name in ("step", "exp_avg", "exp_avg_sq")}
    weights = {f"{part}.{name}" for part in ("weights", "best") for name in ("slope", "offset")}
    assert names == weights | moments | {"generator"}
    assert facts["history"].keys() == {"rows", "best_epoch", "best", "seconds"}
    assert facts["history"]["rows"] == history.rows
    assert facts["stopping"].keys() == {"metric", "patience", "best", "best_epoch", "waited"}
    assert facts["optimizer"].keys() == {"groups", "plain"}
    assert facts["optimizer"]["groups"][0].keys() == {"params", "lr", "weight_decay"}


def test_callbacks_are_called_in_turn_and_their_examples_hold() -> None:
    assert doctest.testmod(callbacks_module).failed == 0
    calls: list[str] = []

    class Spy(Callback):
        def __init__(self, name: str) -> None:
            self.name = name

        def on_train_begin(self, history: History) -> None:
            calls.append(f"{self.name} begin {len(history.rows)}")

        def on_epoch_end(self, row: Row) -> None:
            calls.append(f"{self.name} epoch {row['epoch']} {'score' in row}")

    line = Line()
    spies = [Spy("a"), Callback(), Spy("b")]
    trainer(epochs=2, evaluate_every=2).fit(line, Points(), score(line), callbacks=spies)
    assert calls == ["a begin 0", "b begin 0", "a epoch 1 False", "b epoch 1 False", "a epoch 2 True", "b epoch 2 True"]
