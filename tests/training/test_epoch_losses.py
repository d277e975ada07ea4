"""The losses of an epoch read from an accelerator every few steps: the same means, and the same error, later."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from lmm4rec.core.errors import TrainingError
from lmm4rec.features.source import Frozen
from lmm4rec.recommenders.lightgcn import LightGCN
from lmm4rec.testing.worlds import camps
from lmm4rec.training.epoch_losses import EpochLosses
from lmm4rec.training.history import EarlyStopping, Row
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.optim.adam import Adam
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.state import Checkpoint, TrainingState
from lmm4rec.training.trainer import Trainer


def losses_of(every: int) -> EpochLosses:
    objective = RankingObjective(LightGCN(camps()[0], {}, torch.Generator()), Frozen({}))
    optimizer = Adam([{"params": list(objective.parameters()), "lr": 0.1, "weight_decay": 0.0}])
    state = TrainingState(objective, optimizer, torch.Generator(), EarlyStopping("loss", 0))
    checkpoint = Checkpoint(state, Path("state.safetensors"), every_s=0.0)
    checkpoint.epoch = 1
    return EpochLosses(2, checkpoint, every=every)


def step(losses: EpochLosses, number: int, bpr: float, norm: float = 1.0) -> None:
    terms = {"bpr": torch.tensor(bpr), "l2": torch.tensor(0.25, requires_grad=True)}
    losses.require_finite(torch.stack(list(terms.values())).sum(), "loss", number, terms)
    losses.require_finite(torch.tensor(norm), "gradient", number, terms)
    losses.add(terms)


@pytest.mark.parametrize("every", [1, 2, 32])
def test_the_means_are_sums_in_double_precision_of_what_each_step_has(every: int) -> None:
    values = [0.1, 1e8, 0.2, 0.3, 0.7]
    with losses_of(every) as losses:
        for number, value in enumerate(values):
            step(losses, number, value)
    total = 0.0
    for value in values:
        total += float(torch.tensor(value))
    assert losses.means(5) == {"loss": total / 5 + 0.25, "loss.bpr": total / 5, "loss.l2": 0.25}


@pytest.mark.parametrize(
    ("bpr", "norm", "name"), [(math.nan, math.nan, "loss"), (0.5, math.inf, "gradient")], ids=["loss", "gradient"]
)
def test_the_error_names_the_first_step_that_is_not_finite(bpr: float, norm: float, name: str) -> None:
    message = rf"^the {name} is not finite in epoch 2, step 6: bpr = {bpr:.6g}, l2 = 0.25. The last good state, after"
    seen: list[int] = []

    def steps(every: int) -> None:
        with losses_of(every) as losses:
            for number in range(4, 10):
                seen.append(number)
                step(losses, number, bpr if number == 6 else 0.1, norm if number == 6 else 1.0)

    for every, last in ((1, 6), (4, 7), (32, 9)):
        with pytest.raises(TrainingError, match=message):
            steps(every)
        assert seen[-1] == last


def test_a_step_that_fails_by_what_was_not_finite_reports_that() -> None:
    def fails() -> None:
        with losses_of(32) as losses:
            step(losses, 0, 0.1, math.nan)
            raise RuntimeError("no eigenvalues of NaN")

    with pytest.raises(TrainingError, match="the gradient is not finite in epoch 2, step 0"):
        fails()


@pytest.mark.gpu
def test_a_training_on_a_gpu_reports_the_losses_and_the_error_of_one_on_the_cpu() -> None:
    cpu, gpu = (trained(device, scale=1.0) for device in ("cpu", "cuda"))
    assert len(cpu) == len(gpu) == 3
    for one, other in zip(cpu, gpu, strict=True):
        assert one == pytest.approx(other, rel=1e-4)
    messages = []
    for device in ("cpu", "cuda"):
        with pytest.raises(TrainingError, match="the loss is not finite in epoch 1, step 0") as error:
            trained(device, scale=math.inf)
        messages.append(str(error.value))
    assert messages[0] == messages[1]


def trained(device: str, *, scale: float) -> list[Row]:
    graph, generator = camps()[0], torch.Generator().manual_seed(0)
    model = LightGCN(graph, {}, generator)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
    sampler = TripleSampler(graph.users, graph.items, graph.n_items, batch_size=8)
    return Trainer(epochs=3, device=device).fit(RankingObjective(model, Frozen({})), sampler, None).rows
