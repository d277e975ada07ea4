"""The average of the weights over epochs, by hand, and what a training does with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lmm4rec.training.objective import Objective
from lmm4rec.training.trainer import Trainer
from lmm4rec.training.weight_average import WeightAverage


class Walk(Objective):
    """A weight that each step of Adam moves up by the learning rate, under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.tied = self.weight
        self.register_buffer("steps", torch.zeros((), dtype=torch.long))

    def losses(self, batch: Tensor, generator: torch.Generator) -> Mapping[str, Tensor]:
        self.steps += 1
        return {"minus": -self.weight.sum()}


class OneBatch:
    def __len__(self) -> int:
        return 1

    def epoch(self, generator: torch.Generator) -> Iterator[Tensor]:
        yield torch.zeros(1)


def fit(walk: Walk, *, share: float, epochs: int, validates: bool) -> list[float]:
    """The weights that validation saw."""
    seen: list[float] = []

    def validate() -> dict[str, float]:
        seen.append(walk.weight.item())
        return {"score": seen[-1]}

    trainer = Trainer(epochs=epochs, learning_rate=1.0, metric="score", device="cpu", weight_average=share)
    trainer.fit(walk, OneBatch(), validate if validates else None)
    return seen


def test_the_first_epochs_are_averaged_evenly_and_later_ones_with_the_share() -> None:
    average = WeightAverage(0.5)
    seen: list[float] = []
    for epoch, value in enumerate([1.0, 3.0, 8.0, 0.0], start=1):
        average.update({"weight": torch.tensor([value])}, epoch)
        seen.append(average.tensors["weight"].item())
    assert seen == [1, 2, 5, 2.5]
    evenly = WeightAverage(0.9)
    for epoch, value in enumerate([1.0, 3.0, 8.0], start=1):
        evenly.update({"weight": torch.tensor([value])}, epoch)
    assert evenly.tensors["weight"].item() == pytest.approx(4)


def test_validation_sees_the_average_and_training_goes_on_with_the_weights_themselves() -> None:
    walk = Walk()
    seen = fit(walk, share=0.5, epochs=4, validates=True)  # the weights after the epochs are 1, 2, 3, 4
    assert seen == pytest.approx([1, 1.5, 2.25, 3.125])
    assert walk.weight.item() == walk.tied.item() == pytest.approx(3.125)  # the best average, not the last weights
    assert int(walk.steps) == 4


@pytest.mark.parametrize(("share", "last"), [(0.0, 4.0), (0.5, 3.125)])
def test_without_validation_the_average_of_all_epochs_stays(share: float, last: float) -> None:
    walk = Walk()
    fit(walk, share=share, epochs=4, validates=False)
    assert walk.weight.item() == pytest.approx(last)


def test_weights_of_an_earlier_training_are_in_the_average_also_where_it_is_resumed(tmp_path: Path) -> None:
    def trained(epochs: int, state_file: Path | None) -> float:
        walk = Walk()
        walk.weight.data.fill_(10)
        options: dict[str, Any] = {"learning_rate": 1.0, "metric": "score", "device": "cpu", "checkpoint_every_s": 0.0}
        trainer = Trainer(epochs=epochs, weight_average=0.5, **options)
        trainer.fit(walk, OneBatch(), None, state_file=state_file, is_warm=True)
        return walk.weight.item()

    # the weights after the epochs are 11, 12, 13
    assert [trained(epochs, None) for epochs in (1, 2, 3)] == pytest.approx([10.5, 11.25, 12.125])
    trained(2, tmp_path / "state.safetensors")
    assert trained(3, tmp_path / "state.safetensors") == pytest.approx(12.125)


def test_an_error_within_leaves_the_weights_as_they_were() -> None:
    weight, average = torch.tensor([1.0]), WeightAverage(0.5)
    average.update({"weight": weight}, 1)
    weight.fill_(5)

    def fail() -> None:
        with average.in_place_of({"weight": weight}):
            assert weight.item() == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (weight.item(), average.tensors["weight"].item()) == (5, 1)


def test_an_average_read_from_a_file_moves_to_the_device_of_the_weights() -> None:
    average = WeightAverage(0.5)
    average.tensors = {"weight": torch.ones(2)}
    average.update({"weight": torch.ones(2, device="meta")}, epoch=2)
    assert average.tensors["weight"].device.type == "meta"
