"""One model on one log, measured in a process of its own, so that its peak memory is its own.

python benchmarks/_step.py MODEL LOG BATCHES PARAMETERS BATCH_SIZE           # prints one JSON object
python benchmarks/_step.py MODEL LOG BATCHES PARAMETERS BATCH_SIZE epoch     # the time and memory of an epoch alone
"""

from __future__ import annotations

import itertools
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any, Literal

import torch

from _logs import Log, load
from _profile import shares
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.core.types import Batch, Embeddings, Features
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.features.source import Frozen
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.optim.adam import Adam
from lmm4rec.training.sampler import TripleSampler, automatic_batch_size
from lmm4rec.training.trainer import Trainer

DIM, WARM, PROFILED = 64, 2, 3


class Clocked:
    """The first batches of an epoch, with the moments (by clock and by processor) at which each was asked for."""

    def __init__(self, sampler: TripleSampler, batches: int) -> None:
        self.sampler, self.batches, self.asked = sampler, min(batches + WARM, len(sampler)), list[tuple[float, float]]()

    def __len__(self) -> int:
        return self.batches

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        for batch in itertools.islice(self.sampler.epoch(generator), self.batches):
            self.asked.append((time.perf_counter(), time.process_time()))
            yield batch
        self.asked.append((time.perf_counter(), time.process_time()))

    def medians(self) -> tuple[float, float]:
        """Seconds a batch by the clock and of all threads' processor time; the first few batches are left out."""
        pairs = itertools.pairwise(self.asked[WARM:])
        clock, processor = zip(*((b[0] - a[0], b[1] - a[1]) for a, b in pairs), strict=True)
        return statistics.median(clock), statistics.median(processor)


def measure(
    name: str, data: str, batches: int, parameters: dict[str, Any], batch_size: int | Literal["auto"], *, whole: bool
) -> dict[str, Any]:
    """`whole`: with what the time is spent on, and an evaluation."""
    log = load(data)
    graph, features = log.graph(), log.features()
    before = _memory()
    generator = torch.Generator().manual_seed(0)
    component = RECOMMENDERS.get(name)
    with Clock() as build:
        recommender = component(graph, features, generator, dim=DIM, **parameters)
    objective = RankingObjective(recommender, Frozen(features))
    if batch_size == "auto":
        batch_size = automatic_batch_size(len(graph.users), reads_whole_graph=not component.splits_batches)
    clocked = Clocked(TripleSampler(graph.users, graph.items, log.n_items, batch_size=batch_size), batches)
    Trainer(epochs=1, metric="loss", device="cpu").fit(objective, clocked, dict)
    step, processor = clocked.medians()
    with Clock() as begin:
        objective.begin_epoch(generator)
    epoch = {
        "milliseconds_a_batch": 1000 * step,
        "processor_milliseconds_a_batch": 1000 * processor,
        "batch_size": clocked.sampler.batch_size,
        "batches_measured": len(clocked.asked) - 1 - WARM,
        "begin_epoch_seconds": begin.seconds,
        "epoch_seconds_extrapolated": begin.seconds + step * len(clocked.sampler),
        "build_seconds": build.seconds,
        "peak_memory_in_training_mb": _memory(),
        "memory_of_data_and_features_mb": before,
        "parameters": sum(parameter.numel() for parameter in recommender.parameters()),
        "settings": parameters,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
    }
    if not whole:
        return epoch
    triples = clocked.sampler.epoch(generator)
    sides = {log.n_users, log.n_items, log.n_users + log.n_items}
    spent = shares(lambda: _backward(objective, itertools.islice(triples, PROFILED), generator), sides)
    evaluation, users = _evaluation(recommender, features, log)
    return epoch | {
        "spent_on": spent,
        "evaluation_seconds": evaluation,
        "evaluated_users_per_second": users / evaluation,
        "peak_memory_mb": _memory(),
    }


def _evaluation(recommender: Recommender, features: Features, log: Log) -> tuple[float, int]:
    """Seconds of vectors and ranking with all metrics, and the users ranked: the median of three where it is quick."""
    seconds = list[float]()
    while not seconds or (len(seconds) < 3 and sum(seconds) < 10):
        with Clock() as clock, torch.inference_mode():
            scorer = recommender.embed(features)
            assert isinstance(scorer, Embeddings)
            report = Evaluator().evaluate(scorer, log.parts[2], log.parts[:2])
        seconds.append(clock.seconds)
    return statistics.median(seconds), len(report.users)


def _backward(objective: RankingObjective, batches: Iterator[Batch], generator: torch.Generator) -> None:
    """Losses and gradients as the trainer has them."""
    weights = [weight for weight in objective.parameters() if weight.requires_grad]
    optimizer = Adam([{"params": weights, "lr": 1e-3, "weight_decay": 0.0}])
    for batch in batches:
        optimizer.zero_grad()
        loss = torch.stack(list(objective.losses(batch, generator).values())).sum()
        loss.backward()  # type: ignore[no-untyped-call]
    optimizer.catch_up()


class Clock:
    """Seconds by the wall clock between entry and exit."""

    def __enter__(self) -> Clock:
        self.start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self.start


def _memory() -> float:
    """The most memory that this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    model, where, count, settings, size, *only = sys.argv[1:]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    triples: int | Literal["auto"] = "auto" if size == "auto" else int(size)
    print(json.dumps(measure(model, where, int(count), json.loads(settings), triples, whole=only != ["epoch"])))
