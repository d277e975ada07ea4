"""The best items by exact scoring, HNSW and IVF: time to build, memory, latency, and recall against exact.

    python benchmarks/search.py                       # 1,000,000 items × 64
    python benchmarks/search.py --items=50000

One query at a time, as a service answers; each index in a process of its own, so that memory is its own. Vectors stand
in for a trained model's: tastes in clusters, item lengths that differ by a factor of about three (popularity).
"filtered" leaves a tenth of the items, "seen" hides 50 items of each user, "new" is how many of 1,000 items that are
added after the build, each made the best for one user, are found first at once. Targets at 1,000,000 × 64: p99 of hnsw
under 10 ms with recall@10 of 0.95.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from _results import write
from lmm4rec.core.types import Embeddings
from lmm4rec.evaluation.ranking import Ranking, restrict, top_k
from lmm4rec.serving.index import Index

K, SEEN, NEW = 10, 50, 1000


def vectors(items: int, dim: int, users: int) -> tuple[Tensor, Tensor]:
    """Users and items around shared centers; lengths of items are log-normal."""
    generator = torch.Generator().manual_seed(0)
    centers = torch.randn(200, dim, generator=generator)

    def around(count: int) -> Tensor:
        chosen = torch.randint(200, (count,), generator=generator)
        return F.normalize(centers[chosen] + torch.randn(count, dim, generator=generator), dim=1)

    lengths = torch.exp(0.3 * torch.randn(items, 1, generator=generator))
    return around(users), around(items) * lengths


def timed(ask: Callable[[int], Ranking], users: int) -> tuple[np.ndarray, dict[str, float]]:
    """The items of each user's list, and the milliseconds of an answer."""
    ask(0)
    found, times = [], []
    for user in range(users):
        began = time.perf_counter()
        found.append(ask(user).items[0])
        times.append(1000 * (time.perf_counter() - began))
    p50, p99 = np.percentile(times, [50, 99]).tolist()
    return np.stack(found), {"p50_ms": round(p50, 3), "p99_ms": round(p99, 3)}


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """The share of the exact answer that was found."""
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found.tolist(), truth.tolist(), strict=True)]))


def one(kind: str, items: int, dim: int, users: int, effort: int | None) -> dict[str, Any]:
    """All figures of one way to search."""
    asking, matrix = vectors(items, dim, users)
    rng = np.random.default_rng(0)
    chosen = torch.from_numpy(rng.random(items) < 0.1)
    seen = [np.sort(rng.choice(items, SEEN, replace=False)).astype(np.int64) for _ in range(users)]
    scorer = Embeddings(asking, matrix)

    def exact(restricted: bool) -> Callable[[int], Ranking]:
        what = restrict(scorer, chosen if restricted else None)
        return lambda user: top_k(what, np.array([user]), K)

    if kind == "exact":
        _, plain = timed(exact(False), users)
        _, filtered = timed(exact(True), users)
        return {"latency": plain, "filtered": filtered}
    before, began = _resident_mb(), time.perf_counter()
    index = Index.build(matrix, kind, effort=effort)  # type: ignore[arg-type]
    built = {"build_s": round(time.perf_counter() - began, 1), "memory_mb": round(_resident_mb() - before)}
    nothing = np.empty(0, np.int64)

    def ask(restricted: bool, hide: bool) -> Callable[[int], Ranking]:
        allowed = chosen if restricted else None
        return lambda user: index.search(asking[user : user + 1], matrix, K, allowed, [seen[user] if hide else nothing])

    figures: dict[str, Any] = {**built, "effort": index.effort}
    for name, restricted, hide in (("latency", False, False), ("filtered", True, False), ("seen", False, True)):
        found, times = timed(ask(restricted, hide), users)
        truth, _ = timed(exact(restricted), users)
        figures[name] = times | ({} if hide else {"recall@10": round(recall(found, truth), 4)})
    wider = torch.cat([matrix, 10 * asking[:NEW]])
    first = [
        int(index.search(asking[u : u + 1], wider, K, None, [nothing]).items[0, 0]) for u in range(len(wider) - items)
    ]
    figures["new"] = float(np.mean(np.array(first) == items + np.arange(len(first))))
    return figures


def _resident_mb() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmRSS:"))


def main() -> None:
    """Each way in a process of its own."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--users", type=int, default=1000)
    parser.add_argument("--effort", type=int, default=None)
    parser.add_argument("--kinds", default="exact,ivf,hnsw")
    parser.add_argument("--one", default="")
    given = parser.parse_args()
    if given.one:
        print(json.dumps(one(given.one, given.items, given.dim, given.users, given.effort)))
        return
    figures: dict[str, Any] = {"items": given.items, "dim": given.dim, "queries": given.users, "k": K}
    for kind in given.kinds.split(","):
        command = [sys.executable, __file__, f"--one={kind}", *sys.argv[1:]]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        figures[kind] = json.loads(answer.stdout.splitlines()[-1])
        print(kind, figures[kind], flush=True)
    write("search", figures)


if __name__ == "__main__":
    main()
