"""Memory and time of the item graphs at the size of Amazon Electronics: 63,001 items, 4096 + 384 features.

    python benchmarks/item_graph.py                # the kNN graph of each modality, by itself
    python benchmarks/item_graph.py lattice mgcn   # whole models: graph, a training step, ranking vectors

Peak memory is that of a process of its own, the features' 1.1 GB told apart. A dense similarity of all items would be
15.9 GB a modality. The limits: 2 GB for a graph, 4 GB for a model with its features.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from typing import Any

import torch

from _results import write
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.item_graph import neighborhood, normalize_entries
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import TripleSampler

USERS, ITEMS, LIKES, NEIGHBORS = 192_403, 63_001, 1_689_188, 10
WIDTHS = {"image": 4096, "text": 384}


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def features(*modalities: str) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {m: torch.randn(ITEMS, WIDTHS[m], generator=generator) for m in modalities}


def item_graph(modality: str, results: Any) -> None:
    table = features(modality)[modality]
    before, start = peak_gb(), time.perf_counter()
    entries = normalize_entries(neighborhood(table, NEIGHBORS), ITEMS)
    seconds = time.perf_counter() - start
    tera = 2 * ITEMS**2 * table.shape[1] / 1e12
    results.put({"peak_gb_beside_features": peak_gb() - before, "seconds": seconds, "entries": len(entries.rows),
                 "teraflop_a_second": tera / seconds})  # fmt: skip


def model(name: str, results: Any) -> None:
    generator, table = torch.Generator().manual_seed(0), features(*WIDTHS)
    users, items = (torch.randint(n, (LIKES,), generator=generator) for n in (USERS, ITEMS))
    graph = InteractionGraph(users, items, USERS, ITEMS)
    component = RECOMMENDERS.get(name)
    objective = RankingObjective(component(graph, table, generator), Frozen(table))
    optimizer = torch.optim.Adam(objective.parameters(), fused=True)
    marks = [time.perf_counter()]
    objective.begin_epoch(generator)
    marks.append(time.perf_counter())
    steps = iter(TripleSampler(users, items, ITEMS).epoch(generator))
    for batch in (next(steps) for _ in range(3)):
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(objective.losses(batch, generator).values())).sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        marks.append(time.perf_counter())
    with torch.inference_mode():
        objective.recommender.embed(table)
    marks.append(time.perf_counter())
    parts = ("begin_epoch", "first_step", "second_step", "third_step", "embed")
    seconds = {part: end - start for part, start, end in zip(parts, marks, marks[1:], strict=False)}
    results.put({"peak_gb": peak_gb(), "seconds": seconds})


def apart(work: Any, argument: str) -> dict[str, Any]:
    """The work's result from a new process."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=work, args=(argument, results))
    process.start()
    found: dict[str, Any] = results.get()
    process.join()
    return found


def main(names: list[str]) -> None:
    found = {name: apart(model, name) for name in names} or {m: apart(item_graph, m) for m in WIDTHS}
    write("item_graph_models" if names else "item_graph", {"items": ITEMS, "threads": torch.get_num_threads(), **found})


if __name__ == "__main__":
    main(sys.argv[1:])
