"""Models with tables in shards train as in one process."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch

from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.distributed import process_group, sharding
from lmm4rec.features.source import Frozen
from lmm4rec.nn import tables
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.tables import ShardedTable, Table, node_table, normal_table, rows_of_tables
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import TripleSampler, sampler_of
from lmm4rec.training.sequence_sampler import SequenceSampler
from lmm4rec.training.trainer import Trainer
from process_groups import in_group

USERS, ITEMS, PAIRS = 301, 202, 1200
SHAPES = [(6,), (4,), (2, 2), (4, 3)]  # of indices of rows
CASES: dict[str, tuple[str, dict[str, Any], int]] = {
    "bpr": ("bpr", {"dim": 8}, 9),  # few rows a batch: the others are deferred
    "bpr, large batches": ("bpr", {"dim": 8}, 501),
    "vbpr": ("vbpr", {"dim": 8, "content_dim": 4}, 9),
    "lightgcn": ("lightgcn", {"dim": 8, "layers": 3}, 401),
    "bm3": ("bm3", {"dim": 8}, 401),
    "freedom": ("freedom", {"dim": 8}, 401),
    "sasrec": ("sasrec", {"dim": 8, "length": 5, "items": "both"}, 31),
    "gru4rec": ("gru4rec", {"dim": 8, "length": 5}, 31),
}  # fmt: skip


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def world() -> tuple[InteractionGraph, dict[str, torch.Tensor]]:
    users, items = (torch.randint(count, (PAIRS,), generator=generator(count)) for count in (USERS, ITEMS))
    features = {"image": torch.randn(ITEMS, 6, generator=generator(1)), "text": torch.randn(ITEMS, 5)}
    features["text"] = torch.randn(ITEMS, 5, generator=generator(2))
    features["image"][::7] = 0
    return InteractionGraph(users, items, USERS, ITEMS, in_order=True), features


def trained(case: str, epochs: int, state: Path | None = None, **options: Any) -> dict[str, Any]:
    """The losses of all epochs, and the vectors of the last."""
    name, hyper, batch_size = CASES[case]
    graph, features = world()
    component: type[Recommender] = RECOMMENDERS.get(name)
    recommender = component(graph, features, generator(1), **hyper)
    own = [weight for weight in recommender.parameters() if isinstance(weight, Table)]
    assert all(isinstance(table, ShardedTable) == sharding.is_sharded() for table in own)
    if sampler_of(component) is SequenceSampler:
        rows = torch.repeat_interleave(graph.sequences.counts)
        sampler: Any = SequenceSampler(rows, graph.sequences.items, ITEMS, 5, batch_size=batch_size, negatives=2)
    else:
        sampler = TripleSampler(graph.users, graph.items, ITEMS, batch_size=batch_size, negatives=2)
    objective = RankingObjective(recommender, Frozen(features))
    scores: list[float] = []

    def validate() -> dict[str, float]:
        with torch.inference_mode():
            scores.append(float(recommender.embed(features).scores(torch.arange(USERS)).double().square().mean()))
        return {"score": float(len(scores) if len(scores) < 3 else 0)}  # the second epoch is the best

    steps: dict[str, Any] = {"epochs": epochs, "learning_rate": 0.02, "weight_average": 0.5, "patience": 0}
    trainer = Trainer(**steps, metric="score", device="cpu", checkpoint_every_s=0.0, **options)
    rows_of_history = trainer.fit(objective, sampler, validate, state_file=state).rows
    with torch.no_grad():
        vectors = recommender.embed(features)
    return {
        "losses": [row["loss"] for row in rows_of_history],
        "scores": scores,
        "users": vectors.users.tolist(),
        "items": vectors.items.tolist(),
    }


def write(folder: str, cases: list[str], epochs: int, checkpoint: str | None = None) -> None:
    """What each process of a group does."""
    with sharding.sharded_rows(True):
        for case in cases:
            found = trained(case, epochs, Path(checkpoint) / f"{case}.safetensors" if checkpoint else None)
            (Path(folder) / f"{case}-{process_group.world_size()}-{process_group.rank()}.json").write_text(
                json.dumps(found)
            )


def same(one: dict[str, Any], other: dict[str, Any], case: str) -> None:
    np.testing.assert_allclose(one["losses"], other["losses"], rtol=2e-5, err_msg=case)
    for side in ("users", "items"):
        want = np.array(one[side])
        np.testing.assert_allclose(other[side], want, rtol=1e-3, atol=1e-4 * np.abs(want).max(), err_msg=case)


def read(folder: Path, case: str, processes: int) -> list[dict[str, Any]]:
    files = [folder / f"{case}-{processes}-{rank}.json" for rank in range(processes)]
    return [json.loads(file.read_text()) for file in files]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_losses_and_vectors_are_those_of_one_process_also_after_a_change_of_their_number(tmp_path: Path) -> None:
    """Two processes train; three do, save after two epochs of three, and one and two processes go on from there."""
    cases, states = [*CASES], tmp_path / "states"
    in_group(2, write, str(tmp_path), cases, 3)
    in_group(3, write, str(tmp_path), cases, 2, str(states))
    alone = {case: trained(case, 3) for case in cases}
    copied = shutil.copytree(states, tmp_path / "for one")
    for case in cases:
        for found in read(tmp_path, case, 2):
            same(alone[case], found, case)
        assert len(list(states.glob(f"{case}-2-*-of-3.safetensors"))) == 3
        same(alone[case], trained(case, 3, copied / f"{case}.safetensors"), case)
        assert not list(copied.glob(f"{case}-*"))  # the last state is in one file
        assert not (copied / f"{case}.index.json").exists()
    in_group(2, write, str(tmp_path), cases, 3, str(states))
    for case in cases:
        for found in read(tmp_path, case, 2):
            same(alone[case], found, case)
        assert len(list(states.glob(f"{case}-*"))) == 2, "files of an earlier state are left"


def rows_and_gradients(exchanges: int) -> None:
    """Rows of three tables, two of them of one width, and their gradients are those of whole tables."""
    rank, processes = process_group.rank(), process_group.world_size()
    whole = [Table(torch.randn(rows, dim, generator=generator(rows))) for rows, dim in ((11, 3), (7, 3), (5, 2))]
    with sharding.sharded_rows(True):
        shards = [normal_table(*table.shape, generator(len(table)), std=1.0) for table in whole]
    per_process = [
        [
            torch.randint(rows, shape, generator=generator(number))
            for rows, shape in zip((11, 7, 5, 7), SHAPES, strict=True)
        ]
        for number in range(processes)
    ]

    def losses(tables: list[Table], indices: list[torch.Tensor]) -> torch.Tensor:
        users, items, others = tables
        found = rows_of_tables((users, indices[0]), (others, indices[2]), (items, indices[1], indices[3]))
        assert [each.shape[:-1] for each in found] == [SHAPES[0], SHAPES[2], SHAPES[1], SHAPES[3]]
        return torch.stack([each.square().sum() * number for number, each in enumerate(found, 1)]).sum()

    counted: list[int] = []
    exchange = process_group.all_to_all
    with patch.object(process_group, "all_to_all", lambda *one: (counted.append(1), exchange(*one))[1]):
        loss = losses(shards, per_process[rank])
        loss.backward()
    assert len(counted) == exchanges
    torch.testing.assert_close(loss, losses(whole, per_process[rank]))
    torch.stack([losses(whole, indices) for indices in per_process]).mean().backward()
    for shard, table in zip(shards, whole, strict=True):
        assert isinstance(shard, ShardedTable)
        assert shard.grad is not None
        assert table.grad is not None
        torch.testing.assert_close(shard.grad.to_dense(), table.grad[shard.range])


def both_ways() -> None:
    rows_and_gradients(exchanges=2)  # the ids of each width; rows and gradients are in common memory
    process_group._SHARED_MEMORY.set(None)
    rows_and_gradients(exchanges=6)


@pytest.mark.long
def test_tables_of_one_width_are_exchanged_at_once() -> None:
    in_group(3, both_ways)


def test_a_sharded_table_is_drawn_as_in_one_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """In blocks, of which the last may not be so small that torch draws it in another way."""
    monkeypatch.setattr(tables, "_DRAWN_ROWS", 16)
    monkeypatch.setattr(sharding, "is_sharded", lambda: True)
    monkeypatch.setattr(process_group, "world_size", lambda: 3)
    for dim, users, items in ((3, 100, 49), (64, 33, 1), (1, 17, 50), (7, 0, 5), (5, 16, 18)):
        whole = torch.cat([torch.randn(count, dim, generator=generator()) for count in (users + items,)])
        parts, nodes = [], []
        for rank in range(3):
            monkeypatch.setattr(process_group, "rank", lambda rank=rank: rank)
            parts.append(normal_table(users + items, dim, generator(), std=2.0).detach())
            nodes.append(node_table(users, items, dim, generator(4)).detach())
        assert torch.equal(torch.cat(parts), 2.0 * whole)
        with monkeypatch.context() as off:
            off.setattr(sharding, "is_sharded", lambda: False)
            assert torch.equal(torch.cat(nodes), node_table(users, items, dim, generator(4)))
