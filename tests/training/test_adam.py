"""Adam beside PyTorch's: whole parameters to the bit, tables whose rows rest to the rounding."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import lmm4rec.training.trainer
from lmm4rec.core.types import Batch
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.tables import rows, sparse_gradients
from lmm4rec.recommenders.base import Recommender
from lmm4rec.recommenders.bpr import BPR
from lmm4rec.recommenders.vbpr import VBPR
from lmm4rec.training.objective import Ranking
from lmm4rec.training.optim.adam import Adam
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import History, Trainer

ROWS, DIM = 400, 3


def table(seed: int = 0) -> nn.Parameter:
    return nn.Parameter(torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(seed)))


def options(*weights: nn.Parameter, **changed: float) -> list[dict[str, Any]]:
    return [{"params": list(weights), "lr": 0.01, "weight_decay": 0.0} | changed]


def draw(generator: torch.Generator, scale: float) -> tuple[Tensor, Tensor]:
    """Rows that a batch reads, some of them twice, and a gradient for each."""
    read = torch.randint(ROWS, (8,), generator=generator)
    return torch.cat([read, read[:2]]), scale * torch.randn(10, DIM, generator=generator)


def step_rows(adam: Adam, weight: nn.Parameter, read: Tensor, gradient: Tensor) -> None:
    with sparse_gradients(adam.bring({weight: read})):
        loss = (rows(weight, read) * gradient).sum()
    adam.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert weight.grad.is_sparse
    adam.step()


def step_whole(optimizer: Any, weight: nn.Parameter, read: Tensor, gradient: Tensor) -> None:
    optimizer.zero_grad()
    (weight[read] * gradient).sum().backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW])
def test_whole_parameters_are_stepped_as_by_pytorch(kind: type[torch.optim.Adam], decay: float) -> None:
    ours, theirs, generator = table(), table(), torch.Generator().manual_seed(1)
    own = Adam(options(ours, weight_decay=decay), decoupled=kind is torch.optim.AdamW)
    peer = kind(options(theirs, weight_decay=decay), fused=True)
    for number in range(20):
        own.param_groups[0]["lr"] = peer.param_groups[0]["lr"] = 0.01 / (1 + number)
        read, gradient = draw(generator, 1.0)
        step_whole(own, ours, read, gradient)
        step_whole(peer, theirs, read, gradient)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize(("scale", "close"), [(1.0, 1e-4), (1e-3, 1e-4), (1e-6, 3e-2)])  # as small as eps
def test_rows_that_rest_end_where_pytorch_takes_them(scale: float, close: float) -> None:
    ours, theirs, generator = table(), table(), torch.Generator().manual_seed(1)
    own, peer = Adam(options(ours)), torch.optim.Adam(options(theirs))
    start = ours.detach().clone()
    for number in range(900):
        own.param_groups[0]["lr"] = peer.param_groups[0]["lr"] = 0.01 / (1 + number % 7)
        read, gradient = draw(generator, scale)
        step_rows(own, ours, read, gradient)
        step_whole(peer, theirs, read, gradient)
        torch.testing.assert_close(ours[read], theirs[read], rtol=0, atol=close)
        if number % 300 == 299:
            own.settle()
            moved = (theirs - start).abs().max()
            assert (ours - theirs).abs().max() <= close * moved
            torch.testing.assert_close(own.state[ours]["exp_avg"], peer.state[theirs]["exp_avg"], atol=0, rtol=1e-4)
            assert own.state[ours]["step"] == number + 1


def test_one_row_by_hand() -> None:
    """A gradient of 2 in the second step, then nothing for five more, in plain numbers."""
    weight = nn.Parameter(torch.ones(ROWS, 1))
    adam = Adam(options(weight))
    step_rows(adam, weight, torch.tensor([7]), torch.zeros(1, 1))
    step_rows(adam, weight, torch.tensor([5]), torch.full((1, 1), 2.0))
    for _ in range(5):
        step_rows(adam, weight, torch.tensor([7]), torch.zeros(1, 1))
    adam.settle()
    value, mean, square = 1.0, 0.0, 0.0
    for step in range(1, 8):
        gradient = 2.0 if step == 2 else 0.0
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        value -= 0.01 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    assert weight[5].item() == pytest.approx(value, abs=1e-6)
    assert weight.sum().item() == pytest.approx(ROWS - 1 + value, abs=1e-4)


def test_decay_and_small_tables_are_stepped_whole() -> None:
    weight = table()
    assert not Adam(options(weight, weight_decay=0.1)).bring({weight: torch.tensor([1, 2])})
    assert not Adam(options(weight)).bring({weight: torch.arange(300)})
    assert Adam(options(weight)).bring({weight: torch.tensor([1, 2])}) == {id(weight)}


def test_a_state_goes_on_in_either() -> None:
    ours, theirs, generator = table(), table(), torch.Generator().manual_seed(1)
    own = Adam(options(ours))
    for _ in range(30):
        step_rows(own, ours, *draw(generator, 1.0))
    own.settle()
    theirs.data.copy_(ours)
    peer = torch.optim.Adam(options(theirs))
    peer.load_state_dict({**peer.state_dict(), "state": copy.deepcopy(own.state_dict()["state"])})
    again = nn.Parameter(ours.detach().clone())
    restored = Adam(options(again))
    restored.load_state_dict(peer.state_dict())
    for _ in range(5):
        read, gradient = draw(generator, 1.0)
        step_rows(own, ours, read, gradient)
        step_rows(restored, again, read, gradient)
        step_whole(peer, theirs, read, gradient)
    own.settle()
    restored.settle()
    assert torch.equal(ours, again)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shapes", [[(3, 2), (4,)], [(5, 2)]])
def test_a_state_of_others_is_refused(shapes: list[tuple[int, ...]]) -> None:
    others = [nn.Parameter(torch.ones(shape)) for shape in shapes]
    optimizer = Adam(options(*others))
    for weight in others:
        weight.grad = torch.ones_like(weight)
    optimizer.step()
    mine = Adam(options(nn.Parameter(torch.ones(3, 2))))
    with pytest.raises(ValueError, match=r"instead of \[1\]|instead of \(3, 2\)"):
        mine.load_state_dict(optimizer.state_dict())


def recommenders() -> Mapping[str, Recommender]:
    generator = torch.Generator().manual_seed(0)
    graph = InteractionGraph(torch.arange(600) % 500, torch.arange(600) % 350, 500, 350)
    features = {"image": torch.randn(350, 8, generator=generator), "text": torch.randn(350, 5, generator=generator)}
    features["text"][3] = 0
    return {"bpr": BPR(graph, {}, generator), "vbpr": VBPR(graph, features, generator, initial_std=0.1)}


@pytest.mark.parametrize("name", ["bpr", "vbpr"])
def test_a_recommender_trains_the_same_where_its_rows_rest(name: str) -> None:
    features = {"image": torch.randn(350, 8), "text": torch.randn(350, 5)} if name == "vbpr" else {}
    trained, sparse = [], []
    for rest in (True, False):
        generator, model = torch.Generator().manual_seed(2), recommenders()[name]
        adam = Adam(options(*model.parameters()))
        for _ in range(40):
            users, liked, other = (torch.randint(size, (6,), generator=generator) for size in (500, 350, 350))
            batch = Batch(users, liked, other[:, None])
            with sparse_gradients(adam.bring(model.read(batch) if rest else {})):
                loss = torch.stack([*model.losses(batch, features, generator).values()]).sum()
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            sparse.append(sum(weight.grad is not None and weight.grad.is_sparse for weight in model.parameters()))
            adam.step()
        adam.settle()
        trained.append({weight_name: weight.detach() for weight_name, weight in model.named_parameters()})
    assert sparse == [{"bpr": 2, "vbpr": 4}[name]] * 40 + [0] * 40
    for weight_name, weight in trained[0].items():
        apart = (weight - trained[1][weight_name]).abs()
        assert apart.max() <= 5e-4, weight_name  # a few gradients are as small as eps
        assert apart.mean() <= 1e-6, weight_name


def test_training_does_not_wait_for_pytorchs_compiler() -> None:
    """Its import takes a second or more, which the first `torch.optim` optimizer of a process pays."""
    code = """
import sys, torch
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.bpr import BPR
from lmm4rec.training.objective import Ranking
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer
pairs = torch.arange(40), torch.arange(40) % 30
bpr = BPR(InteractionGraph(*pairs, 40, 30), {}, torch.Generator().manual_seed(0))
trainer = Trainer(epochs=2, metric="loss", device="cpu", clip_norm=1.0)
history = trainer.fit(Ranking(bpr, Frozen({})), TripleSampler(*pairs, 30), dict)
print("torch._dynamo" in sys.modules, history.rows[1]["loss"] < history.rows[0]["loss"])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "True"]


def log(users: int = 3000, items: int = 2000) -> tuple[BPR, TripleSampler]:
    generator = torch.Generator().manual_seed(3)
    pairs = torch.randint(users, (400,), generator=generator), torch.randint(items, (400,), generator=generator)
    bpr = BPR(InteractionGraph(*pairs, users, items), {}, generator, dim=8)
    return bpr, TripleSampler(*pairs, items, batch_size=50)


def fit(state: Path | None = None, *, killed_after: int = 0, **options: Any) -> tuple[BPR, History]:
    """Six epochs of eight batches; validation looks at the whole tables."""
    bpr, sampler = log()

    def kill(row: Mapping[str, float | int]) -> None:
        if row["epoch"] == killed_after + 1 and killed_after:
            raise KeyboardInterrupt

    def validate() -> dict[str, float]:
        return {"size": float(bpr.users.detach().norm() + bpr.items.detach().norm())}

    trainer = Trainer(epochs=6, metric="size", checkpoint_every_s=0.0, device="cpu", learning_rate=0.01, **options)
    history = trainer.fit(Ranking(bpr, Frozen({})), sampler, validate, state_file=state, listeners=[kill])
    return bpr, history


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.01, "schedule": "linear"}])
def test_training_is_that_with_pytorchs_adam(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    ours, history = fit(**options)
    monkeypatch.setattr(lmm4rec.training.trainer, "Adam", Peer)
    theirs, expected = fit(**options)
    for weight, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert (weight - other).abs().max() <= 5e-3 * other.abs().max()
    for row, peer in zip(history.rows, expected.rows, strict=True):
        assert row == pytest.approx(peer, rel=1e-4)


class Peer(Adam):
    """PyTorch's, which knows nothing of rows."""

    def __init__(self, groups: list[dict[str, Any]], *, decoupled: bool) -> None:
        assert not decoupled
        super().__init__(groups)
        self.peer = torch.optim.Adam(groups, fused=True)
        self.param_groups = self.peer.param_groups

    def bring(self, read: Mapping[nn.Parameter, Tensor]) -> frozenset[int]:
        return frozenset()

    def step(self) -> None:
        self.peer.step()


def test_a_kill_between_epochs_changes_nothing(tmp_path: Path) -> None:
    whole, expected = fit()
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "state.safetensors", killed_after=2)
    resumed, history = fit(tmp_path / "state.safetensors")
    assert history.rows == expected.rows
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))
