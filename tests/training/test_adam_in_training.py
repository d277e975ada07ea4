"""Trainings with Adam's deferred rows: those of whole tables, of PyTorch's Adam, and of one that was killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import lmm4rec.training.trainer
from fit_callbacks import KillAfter, KilledError
from lmm4rec.core.types import Batch
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.tables import Table
from lmm4rec.recommenders.base import Recommender
from lmm4rec.recommenders.bpr import BPR
from lmm4rec.recommenders.vbpr import VBPR
from lmm4rec.training.callbacks import Callback
from lmm4rec.training.history import History
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.optim.adam import Adam
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer


def recommenders() -> Mapping[str, Recommender]:
    generator = torch.Generator().manual_seed(0)
    graph = InteractionGraph(torch.arange(600) % 500, torch.arange(600) % 350, 500, 350)
    features = {"image": torch.randn(350, 8, generator=generator), "text": torch.randn(350, 5, generator=generator)}
    features["text"][3] = 0
    return {"bpr": BPR(graph, {}, generator), "vbpr": VBPR(graph, features, generator, initial_std=0.1)}


@pytest.mark.long
@pytest.mark.parametrize("name", ["bpr", "vbpr"])
def test_a_recommender_trains_the_same_where_rows_are_deferred(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seeded = torch.Generator().manual_seed(1)
    widths = {"image": 8, "text": 5} if name == "vbpr" else {}
    features = {modality: torch.randn(350, width, generator=seeded) for modality, width in widths.items()}
    trained, sparse = [], []
    for deferred in (True, False):
        generator, model = torch.Generator().manual_seed(2), recommenders()[name]
        adam = Adam([{"params": [*model.parameters()], "lr": 0.01, "weight_decay": 0.0}])
        if not deferred:
            monkeypatch.setattr(Adam, "defers_rows", lambda *_: False)
        for _ in range(40):
            users, positives, other = (torch.randint(size, (6,), generator=generator) for size in (500, 350, 350))
            batch = Batch(users, positives, other[:, None])
            adam.zero_grad()
            loss = torch.stack([*model.losses(batch, features, generator).values()]).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            sparse.append(sum(weight.grad is not None and weight.grad.is_sparse for weight in model.parameters()))
            adam.step()
        adam.catch_up()
        trained.append({weight_name: weight.detach() for weight_name, weight in model.named_parameters()})
    assert sparse == [{"bpr": 2, "vbpr": 4}[name]] * 40 + [0] * 40
    for weight_name, weight in trained[0].items():
        apart = (weight - trained[1][weight_name]).abs()
        assert apart.max() <= 5e-4, weight_name  # a few gradients are as small as eps
        assert apart.mean() <= 1e-6, weight_name


@pytest.mark.slow
def test_training_does_not_wait_for_pytorchs_compiler() -> None:
    """Its import takes a second or more, which the first `torch.optim` optimizer of a process pays."""
    code = """
import sys, torch
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.bpr import BPR
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer
pairs = torch.arange(40), torch.arange(40) % 30
bpr = BPR(InteractionGraph(*pairs, 40, 30), {}, torch.Generator().manual_seed(0))
trainer = Trainer(epochs=2, metric="loss", device="cpu", clip_norm=1.0)
history = trainer.fit(RankingObjective(bpr, Frozen({})), TripleSampler(*pairs, 30), dict)
print("torch._dynamo" in sys.modules, history.rows[1]["loss"] < history.rows[0]["loss"])
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "True"]


def log(users: int = 3000, items: int = 2000) -> tuple[BPR, TripleSampler]:
    generator = torch.Generator().manual_seed(3)
    pairs = torch.randint(users, (400,), generator=generator), torch.randint(items, (400,), generator=generator)
    bpr = BPR(InteractionGraph(*pairs, users, items), {}, generator, dim=8)
    return bpr, TripleSampler(*pairs, items, batch_size=50)


def fit(state: Path | None = None, *, callbacks: Sequence[Callback] = (), **options: Any) -> tuple[BPR, History]:
    """Six epochs of eight batches; validation looks at the whole tables."""
    bpr, sampler = log()

    def validate() -> dict[str, float]:
        return {"size": float(bpr.users.detach().norm() + bpr.items.detach().norm())}

    trainer = Trainer(epochs=6, metric="size", checkpoint_every_s=0.0, device="cpu", learning_rate=0.01, **options)
    history = trainer.fit(RankingObjective(bpr, Frozen({})), sampler, validate, state_file=state, callbacks=callbacks)
    return bpr, history


@pytest.mark.long
@pytest.mark.usefixtures("way_of_rows")
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

    def defers_rows(self, table: Table, rows: int) -> bool:
        return False

    def step(self) -> None:
        self.peer.step()


@pytest.mark.long
@pytest.mark.usefixtures("way_of_rows")
def test_a_kill_between_epochs_changes_nothing(tmp_path: Path) -> None:
    whole, expected = fit()
    with pytest.raises(KilledError):
        fit(tmp_path / "state.safetensors", callbacks=[KillAfter(2)])
    resumed, history = fit(tmp_path / "state.safetensors")
    assert history.rows == expected.rows
    assert all(map(torch.equal, resumed.parameters(), whole.parameters()))
