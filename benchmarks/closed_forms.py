"""Time and memory of EASE at the size of Amazon Clothing, and of ELSA at that of Electronics, where EASE does not fit.

    python benchmarks/closed_forms.py                   # 23,033 items: target 60 s and 8 GB; 63,001 items
    python benchmarks/closed_forms.py --only=ease       # one of them: the other stays as it was

Interactions are drawn with popular and rare items. Each runs in a process of its own; peak memory is the whole
process's, libraries and data included. B's error is that of columns against the same equations solved in float64 by
conjugate gradients, relative to the column's largest entry. "cpu" is the sum over cores: on a busy machine, half of it
is what two idle cores would take.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, cg

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Neighbors, Scorer
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.interactions import Interactions
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.item_regression import history_scorer
from lmm4rec.nn.neighborhoods import interaction_matrix
from lmm4rec.recommenders.ease import EASE
from lmm4rec.recommenders.elsa import ELSA
from lmm4rec.serving.bundle import Bundle
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import UserSampler
from lmm4rec.training.trainer import Trainer

SIZES = {"ease": (39_387, 23_033, 278_677), "elsa": (192_403, 63_001, 1_689_188)}  # users, items, interactions
L2_WEIGHT, KEPT = 100.0, 200
TARGET = {"seconds": 60.0, "peak_memory_gb": 8.0}


def drawn(users: int, items: int, interactions: int) -> InteractionGraph:
    """Interactions with items of skewed popularity; every item has one at least."""
    rng = np.random.default_rng(0)
    rows = rng.integers(users, size=interactions)
    columns = np.concatenate([np.arange(items), (items * rng.random(interactions - items) ** 2).astype(np.int64)])
    return InteractionGraph(torch.from_numpy(rows), torch.from_numpy(columns), users, items)


def peak_gb() -> float:
    """The largest memory of this process so far."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)


@contextmanager
def timed(into: dict[str, Any], step: str) -> Iterator[None]:
    """Seconds, CPU seconds and the peak so far of a step."""
    start, cpu = time.perf_counter(), time.process_time()
    yield
    seconds = {"seconds": round(time.perf_counter() - start, 1), "cpu_seconds": round(time.process_time() - cpu, 1)}
    into[step] = {**seconds, "peak_memory_gb": peak_gb()}


def rank(scorer: Scorer) -> None:
    """The best 20 items of every user."""
    for users in torch.split(torch.arange(scorer.n_users), 2048):
        scorer.scores(users).topk(20, dim=1)


def largest_error(graph: InteractionGraph, weights: torch.Tensor) -> float:
    """The largest error of five columns of B, relative to the column's largest entry."""
    x = interaction_matrix(graph).astype(np.float64)
    system = LinearOperator((graph.n_items,) * 2, lambda v: x.T @ (x @ v) + L2_WEIGHT * v, dtype=np.float64)
    errors = []
    for item in np.linspace(0, graph.n_items - 1, 5).astype(int):
        column, failed = cg(system, np.eye(1, graph.n_items, item)[0], rtol=1e-12, maxiter=5000)
        assert not failed
        exact = -column / column[item]
        exact[item] = 0.0
        errors.append(np.abs(weights[item].numpy() - exact).max() / np.abs(exact).max())
    return float(max(errors))


def measure_ease() -> dict[str, Any]:
    """The fit, a ranking of all users, and bundles: dense, and of the largest weights."""
    graph = drawn(*SIZES["ease"])
    values: dict[str, Any] = {}
    with timed(values, "fit"):
        scorer = EASE(graph, {}, torch.Generator(), l2_weight=L2_WEIGHT).embed({})
    with timed(values, "ranking of all users"):
        rank(scorer)
    values["largest error of B"] = largest_error(graph, scorer.similarity)
    with tempfile.TemporaryDirectory() as folder:
        values["bundle"] = bundle_of(graph, scorer, Path(folder) / "dense")
        sparse = history_scorer(graph, scorer.similarity, KEPT)
        values[f"bundle of {KEPT} weights an item"] = bundle_of(graph, sparse, Path(folder) / "sparse")
    try:
        EASE(InteractionGraph(torch.tensor([0]), torch.tensor([0]), 1, SIZES["elsa"][1]), {}, torch.Generator())
    except ConfigError as error:
        values["at 63,001 items"] = str(error)
    return values


def bundle_of(graph: InteractionGraph, scorer: Neighbors, folder: Path) -> dict[str, Any]:
    """Size, and the seconds of writing and reading."""
    users = Vocabulary([f"u{row}" for row in range(graph.n_users)], kind="user")
    items = Vocabulary([f"i{row}" for row in range(graph.n_items)])
    log = Interactions(graph.users.numpy().astype(np.int32), graph.items.numpy().astype(np.int32))
    values: dict[str, Any] = {}
    with timed(values, "write"):
        Bundle(scorer, users, items, list(items), log, {}).save_pretrained(folder)
    with timed(values, "read"):
        bundle = Bundle.from_pretrained(folder)
    with timed(values, "recommend to one user"):
        bundle.recommend(["u0"], k=10)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"gigabytes": round(size / 1e9, 3), **values}


def measure_elsa() -> dict[str, Any]:
    """An epoch, and a ranking of a tenth of the users."""
    graph = drawn(*SIZES["elsa"])
    values: dict[str, Any] = {}
    model = ELSA(graph, {}, torch.Generator().manual_seed(0), dim=256)
    sampler = UserSampler(graph.users, graph.items, graph.n_items)
    trainer = Trainer(epochs=1, metric="none", device="cpu")
    with timed(values, f"an epoch of {len(sampler)} batches"):
        trainer.fit(RankingObjective(model, Frozen({})), sampler, lambda: {"none": 0.0})
    with timed(values, "vectors"), torch.inference_mode():
        model.embed({})
    return values


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=SIZES)
    parser.add_argument("--measure", choices=SIZES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps({"ease": measure_ease, "elsa": measure_elsa}[arguments.measure]()))
        return
    from _results import HERE, write

    file = HERE / "results" / "closed_forms.json"
    values = json.loads(file.read_text())["values"] if arguments.only and file.exists() else {}
    for name in [arguments.only] if arguments.only else SIZES:
        command = [sys.executable, __file__, "--measure", name]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        sizes = dict(zip(("users", "items", "interactions"), SIZES[name], strict=True))
        values[name] = {**sizes, "torch_threads": torch.get_num_threads(), **json.loads(run.stdout.splitlines()[-1])}
    write("closed_forms", {**values, "target": TARGET})


if __name__ == "__main__":
    main()
