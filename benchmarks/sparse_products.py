"""Products of a graph with the vectors of its nodes: PyTorch's (MKL) and the loop that Numba compiles, in turn.

    python benchmarks/sparse_products.py

Medians of 15 products each, with one and two threads, and of 20 steps of LightGCN with and without Numba: there the
sizes decide which products are compiled (`sparse_product._is_worth`).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from itertools import islice
from typing import Any
from unittest.mock import patch

import torch

from _logs import Log, load
from _results import write
from lmm4rec.nn import sparse_product
from lmm4rec.nn.graph import normalize
from lmm4rec.nn.sparse_product import product
from lmm4rec.recommenders.lightgcn import LightGCN
from lmm4rec.training.optim.adam import Adam
from lmm4rec.training.sampler import TripleSampler

COLUMNS, ROUNDS, STEPS = (64, 128, 320), 15, 20
BATCHES = {"films": 2048, "baby": 2048, "sports": 8192, "large": 0}  # 0: products alone
WAYS = {"mkl": False, "compiled": True}


def in_turn(works: Mapping[str, Callable[[], object]], rounds: int, switch: str) -> dict[str, float]:
    """Median milliseconds of each, done once before; `switch` is the function that says what `WAYS` does."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            with patch.object(sparse_product, switch, lambda *_, name=name: WAYS[name]):
                start = time.perf_counter()
                work()
                if number:
                    taken[name].append(1000 * (time.perf_counter() - start))
    return {name: round(statistics.median(values), 2) for name, values in taken.items()}


def products(log: Log) -> dict[str, dict[str, float]]:
    """Milliseconds of a product of the whole graph, by the number of columns."""
    matrix = normalize(log.graph()).matrix
    found = {}
    for columns in COLUMNS:
        multiply = partial(product, matrix, torch.randn(matrix.shape[1], columns))
        found[str(columns)] = in_turn(dict.fromkeys(WAYS, multiply), ROUNDS, "_is_worth")
    return found


def steps(log: Log, dim: int, batch_size: int) -> dict[str, float]:
    """Milliseconds of a step of LightGCN."""
    graph, works = log.graph(), dict[str, Callable[[], object]]()
    for name in WAYS:
        generator = torch.Generator().manual_seed(0)
        model = LightGCN(graph, {}, generator, dim=dim)
        optimizer = Adam([{"params": [*model.parameters()], "lr": 1e-3, "weight_decay": 0.0}])
        batches = TripleSampler(graph.users, graph.items, log.n_items, batch_size=batch_size).epoch(generator)
        batch = next(islice(batches, 1))

        def step(model: LightGCN = model, optimizer: Adam = optimizer, batch: Any = batch) -> None:
            optimizer.zero_grad()
            terms = model.losses(batch, {}, torch.Generator())
            torch.stack([*terms.values()]).sum().backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        works[name] = step
    return in_turn(works, STEPS, "has_numba")


def main() -> None:
    found: dict[str, Any] = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for name, batch_size in BATCHES.items():
            log = load(name)
            row: dict[str, Any] = {"nodes": log.n_users + log.n_items, "entries": 2 * len(log.graph().users)}
            row |= {"columns": products(log)}
            if batch_size:
                row |= {f"lightgcn, dim {dim}, batch {batch_size}": steps(log, dim, batch_size) for dim in COLUMNS[:2]}
            found.setdefault(name, {})[f"{threads} threads"] = row
    write("sparse_products", found)


if __name__ == "__main__":
    main()
