"""Milliseconds a training batch on Amazon Baby's log, the whole loop, beside the bare kernels in the same run.

Batch 2,048, dim 64, features of the real widths (image 4096, text 384, seeded normal), two threads. Sampling, losses,
backward pass and optimizer are all in it. The bare kernels are what no implementation can leave out: for LightGCN the
sparse product forward and backward, for VBPR the projection of the batch's distinct items and its gradient.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from _baby import ITEMS, USERS, baby
from _results import write
from lmm4rec.core.registry import Registry
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph, normalize
from lmm4rec.training.objective import Ranking
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer

THREADS, EPOCHS, BATCH, DIM = 2, 6, 2048, 64
MODELS: dict[str, dict[str, Any]] = {"bpr": {}, "lightgcn": {"layers": 1}, "vbpr": {}}
TARGETS = {"lightgcn": 25.0, "vbpr": 60.0}


def milliseconds_a_batch(name: str, graph: InteractionGraph, features: Mapping[str, Tensor]) -> float:
    """The median over epochs, the first left out."""
    generator = torch.Generator().manual_seed(0)
    component = Registry("lmm4rec.recommenders", kind="recommender").get(name)
    objective = Ranking(component(graph, features, generator, dim=DIM, **MODELS.get(name, {})), Frozen(features))
    sampler = TripleSampler(graph.users, graph.items, ITEMS, batch_size=BATCH)
    ends: list[float] = []
    trainer = Trainer(epochs=EPOCHS, evaluate_every=EPOCHS, metric="loss", device="cpu")
    trainer.fit(objective, sampler, dict, listeners=[lambda _: ends.append(time.perf_counter())], shown=False)
    epochs = [after - before for before, after in itertools.pairwise(ends[:-1])]
    return 1000 * statistics.median(epochs) / len(sampler)


def milliseconds(work: Callable[[], object], rounds: int = 15) -> float:
    work()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def bare_kernels(graph: InteractionGraph, features: Mapping[str, Tensor]) -> dict[str, float]:
    adjacency, nodes = normalize(graph), torch.randn(USERS + ITEMS, DIM)
    table = torch.cat(list(features.values()), dim=1)
    sampler = TripleSampler(graph.users, graph.items, ITEMS, batch_size=BATCH)
    batch = next(sampler.epoch(torch.Generator().manual_seed(0)))
    items = torch.unique(torch.cat([batch.positives, batch.negatives.flatten()]))
    projection, gradient = torch.randn(table.shape[1], DIM), torch.randn(len(items), DIM)

    def project() -> None:
        rows = table[items]
        rows @ projection
        rows.T @ gradient

    return {
        "lightgcn": milliseconds(lambda: (adjacency.matrix @ nodes, adjacency.transposed @ nodes)),
        "vbpr": milliseconds(project),
    }


def main() -> None:
    torch.set_num_threads(THREADS)
    source, (train, _, _) = baby()
    users, items = torch.from_numpy(train.users).long(), torch.from_numpy(train.items).long()
    graph = InteractionGraph(users, items, USERS, ITEMS)
    generator = torch.Generator().manual_seed(0)
    features = {
        modality: torch.randn(ITEMS, width, generator=generator) for modality, width in (("image", 4096), ("text", 384))
    }
    taken = {name: milliseconds_a_batch(name, graph, features) for name in MODELS}
    kernels = bare_kernels(graph, features)
    write(
        "training",
        {
            "log": source,
            "threads": THREADS,
            "batch": BATCH,
            "milliseconds_a_batch": taken,
            "bare_kernels_milliseconds": kernels,
            "ratio_to_bare_kernels": {name: taken[name] / kernels[name] for name in kernels},
            "target_milliseconds": TARGETS,
            "target_met": {name: taken[name] <= target for name, target in TARGETS.items()},
        },
    )


if __name__ == "__main__":
    main()
