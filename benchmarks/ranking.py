"""Full ranking with all metrics: 19,445 users × 7,050 items at dim 64, beside its two bare kernels in the same run.

The log is Amazon Baby's where the shared data is at hand (LMM4REC_SHARED, or `shared` beside the checkout), else one
drawn with a seed at the same sizes. Prints and writes the median of five interleaved rounds, by the clock on two
threads, and by processor time on one: the latter means something on a busy machine too.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

import torch

from _logs import SIZES, load
from _results import write
from lmm4rec.core.types import Embeddings
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.evaluation.ranking import users_per_block

DIM, THREADS, ROUNDS = 64, 2, 5
USERS, ITEMS, _ = SIZES["baby"]
TARGET = 20_000  # users per second


def bare_kernels(scorer: Embeddings, k: int) -> None:
    """The product and the selection, block by block: no mask, no ties, no metrics."""
    block = users_per_block(scorer.n_items, memory_mb=256)
    for start in range(0, scorer.n_users, block):
        (scorer.users[start : start + block] @ scorer.items.T).topk(k, dim=1)


def medians(
    works: Mapping[str, Callable[[], object]], clock: Callable[[], float], rounds: int = ROUNDS
) -> dict[str, float]:
    """Median seconds of each work; rounds are interleaved, so that a busy machine slows all of them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for work in works.values():
        work()
    for _ in range(rounds):
        for name, work in works.items():
            start = clock()
            work()
            seconds[name].append(clock() - start)
    return {name: statistics.median(taken) for name, taken in seconds.items()}


def main() -> None:
    torch.set_num_threads(THREADS)
    generator = torch.Generator().manual_seed(0)
    scorer = Embeddings(torch.randn(USERS, DIM, generator=generator), torch.randn(ITEMS, DIM, generator=generator))
    log = load("baby")
    train, valid, test = log.parts
    popular = Embeddings(torch.ones(USERS, 1), torch.from_numpy(train.item_counts(ITEMS)).float()[:, None])
    evaluator = Evaluator()
    report = evaluator.evaluate(scorer, test, [train, valid], train=train)
    works: dict[str, Callable[[], object]] = {
        "bare_kernels": lambda: bare_kernels(scorer, max(evaluator.ks)),
        "metrics": lambda: evaluator.evaluate(scorer, test, [train, valid]),
        "metrics_and_slices": lambda: evaluator.evaluate(scorer, test, [train, valid], train=train),
        "ties_everywhere": lambda: evaluator.evaluate(popular, test, [train, valid]),
    }
    seconds = medians(works, time.perf_counter)
    torch.set_num_threads(1)
    cpu_seconds = medians(works, time.process_time)
    users = len(report.users)
    sizes = {"users": users, "items": ITEMS, "dim": DIM, "threads": THREADS, "metrics": len(report.mean)}
    speed = users / seconds["metrics"]
    write(
        "ranking",
        {"log": log.source, **sizes}
        | {"users_per_second": speed, "target": TARGET, "target_met": speed >= TARGET}
        | {"seconds": seconds, "ratio_to_bare_kernels": ratios(seconds)}
        | {"one_thread_cpu_seconds": cpu_seconds, "one_thread_ratio_to_bare_kernels": ratios(cpu_seconds)},
    )


def ratios(seconds: Mapping[str, float]) -> dict[str, float]:
    return {name: taken / seconds["bare_kernels"] for name, taken in seconds.items()}


if __name__ == "__main__":
    main()
