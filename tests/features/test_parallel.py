"""Two processes train as one does with the same batches."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from live_worlds import TinyVectors, live, sampler, start, world

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.distributed import process_group
from lmm4rec.features.source import Frozen
from lmm4rec.training.lr_schedule import LearningRateSchedule
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.trainer import Trainer

# Examples whose losses are means over a batch's rows, without random numbers: one local, one that spreads content over
# the interaction graph, one with an item graph. With random numbers two processes draw others than one does.
CASES: list[tuple[str, dict[str, Any] | None]] = [
    ("vbpr", None),  # frozen
    ("vbpr", {}),
    ("vbpr", {"every": 2, "max_items": 11}),
    ("mmgcn", {"max_items": 9}),
    ("lattice", {"every": "epoch"}),
]


def rows_of(name: str, options: dict[str, Any] | None) -> list[dict[str, float]]:
    """The history of a training; batches of 61 rows, which two do not share evenly."""
    vectors = TinyVectors()
    recommender, graph = world(RECOMMENDERS.get(name), vectors)
    batches = sampler(graph, 61)
    source = Frozen(start(vectors)) if options is None else live(vectors, **options)
    objective = RankingObjective(
        recommender, source, batches=len(batches), encoder_schedule=LearningRateSchedule(learning_rate=0.01)
    )

    def validate() -> dict[str, float]:
        source.refresh()
        with torch.inference_mode():
            spread = float(recommender.embed(source()).scores(torch.arange(5)).std())
        return {"score": process_group.broadcast(spread)}

    trainer = Trainer(epochs=2, learning_rate=0.02, metric="score", clip_norm=1.0, device="cpu")
    before = {m: weights.detach().clone() for m, weights in vectors.maps.items()}
    rows = trainer.fit(objective, batches, validate).rows
    assert all(torch.equal(weights, before[m]) == (options is None) for m, weights in vectors.maps.items())
    return [dict(row) for row in rows]


def two_processes(folder: Path) -> list[Any]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
    base = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    base |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "CUDA_VISIBLE_DEVICES": ""}
    script = f"import test_parallel; test_parallel.write({str(folder)!r})"
    running = [
        subprocess.Popen([sys.executable, "-c", script], env=base | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(2)
    ]
    try:
        assert [process.wait(timeout=100) for process in running] == [0, 0]
    finally:
        for process in running:
            process.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


def write(folder: str) -> None:
    """What each of the processes does."""
    with process_group.initialized():
        found = [rows_of(*case) for case in CASES]
        (Path(folder) / f"{process_group.rank()}.json").write_text(json.dumps(found))


@pytest.mark.slow
def test_two_processes_give_the_losses_of_one(tmp_path: Path) -> None:
    alone = [rows_of(*case) for case in CASES]
    first, second = two_processes(tmp_path)
    passes = "encoder_passes"  # each process makes its own
    for case, expected, mine, theirs in zip(CASES, alone, first, second, strict=True):
        for want, one, other in zip(expected, mine, theirs, strict=True):
            assert one == other, case
            assert one == pytest.approx(want | {passes: one.get(passes, 0)} if passes in want else want, rel=2e-4), case


def test_one_process_takes_all() -> None:
    rows = torch.arange(5)
    assert torch.equal(process_group.local_rows(rows), rows)
    assert process_group.world_size() == 1
    assert process_group.is_first()
    assert process_group.average_values({"a": 1.5}) == {"a": 1.5}


def test_half_of_the_variables_of_torchrun_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")
    with (
        pytest.raises(ConfigError, match="WORLD_SIZE is 4 without RANK, MASTER_ADDR, MASTER_PORT: unset it"),
        process_group.initialized(),
    ):
        pass
