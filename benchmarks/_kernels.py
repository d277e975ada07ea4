"""What no implementation can leave out, and what the machine could give: bare kernels, bandwidth and FLOP/s."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch

from _logs import Log
from lmm4rec.core.matrices import row_blocks
from lmm4rec.nn.graph import normalize, spread, symmetric_weights, weighted_interactions
from lmm4rec.training.sampler import TripleSampler

DIM, BATCH = 64, 2048


def milliseconds(work: Callable[[], object], rounds: int = 15) -> float:
    work()
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def kernels(log: Log) -> dict[str, dict[str, float]]:
    """Milliseconds, and the share of the machine's bandwidth or FLOP/s, measured in the same run."""
    graph, features = log.graph(), log.features()
    source, target = torch.randn(32 << 20), torch.empty(32 << 20)
    bandwidth = 2 * source.nbytes / milliseconds(lambda: target.copy_(source)) * 1e3
    square = torch.randn(2048, 2048)
    flops = 2 * 2048**3 / milliseconds(lambda: square @ square) * 1e3
    nodes, edges = torch.randn(log.n_users + log.n_items, DIM), 2 * len(graph.users)
    likes, adjacency = weighted_interactions(graph, symmetric_weights(graph)), normalize(graph)
    image = features["image"]
    weight, gradient = torch.randn(image.shape[1], DIM), torch.randn(len(image), DIM)
    moved = nodes.nbytes * 2 + edges * (8 + 4)  # each vector read and written once, each entry's column and weight
    work = 2.0 * image.numel() * DIM

    def by_bandwidth(taken: float) -> dict[str, float]:
        return {"milliseconds": taken, "share_of_bandwidth": moved / taken * 1e3 / bandwidth}

    def by_flops(taken: float) -> dict[str, float]:
        return {"milliseconds": taken, "share_of_flops": work / taken * 1e3 / flops}

    return {
        "machine": {"copy_gigabytes_per_second": bandwidth / 1e9, "matrix_gigaflops": flops / 1e9},
        "graph_step_in_two_blocks": by_bandwidth(milliseconds(lambda: spread(likes, nodes))),
        "graph_step_whole": by_bandwidth(milliseconds(lambda: adjacency.matrix @ nodes)),
        "image_projection": by_flops(milliseconds(lambda: image @ weight)),
        "image_projection_gradient": by_flops(milliseconds(lambda: image.T @ gradient)),
    }


def bare(log: Log) -> dict[str, float]:
    """For LightGCN one step over the graph and back, for VBPR the projection of a batch's items and its gradient."""
    graph, features = log.graph(), log.features()
    adjacency, nodes = normalize(graph), torch.randn(log.n_users + log.n_items, DIM)
    table = torch.cat(list(features.values()), dim=1)
    batch = next(
        TripleSampler(graph.users, graph.items, log.n_items, batch_size=BATCH).epoch(torch.Generator().manual_seed(0))
    )
    items = torch.unique(torch.cat([batch.positives, batch.negatives.flatten()]))
    projection, gradient = torch.randn(table.shape[1], DIM), torch.randn(len(items), DIM)

    def project() -> None:
        start = 0
        for rows in row_blocks(table, items):
            rows @ projection
            rows.T @ gradient[start : start + len(rows)]
            start += len(rows)

    return {
        "lightgcn": milliseconds(lambda: (adjacency.matrix @ nodes, adjacency.transposed @ nodes)),
        "vbpr": milliseconds(project),
    }
