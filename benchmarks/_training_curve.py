"""One training of ours, measured in a process of its own: seconds and recall at each validation.

    python benchmarks/_training_curve.py MODEL LOG SETTINGS SEED [VALIDATIONS]    # prints one JSON object

SETTINGS is a JSON object with "recommender", "train" (keys of the trainer) and "batch_size". It ends by early stopping,
or after that many validations.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch

from _logs import load
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.core.types import Embeddings
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.features.source import Frozen
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import sampler_of
from lmm4rec.training.trainer import Trainer

METRIC = "recall@20"


def curve(name: str, data: str, settings: Mapping[str, Any], seed: int, validations: int = 0) -> dict[str, Any]:
    """Seconds since the start and recall at each validation; test recall of the best."""
    log = load(data)
    features = log.features()
    users: list[float] = []
    points: list[tuple[float, float]] = []
    began = time.perf_counter()
    graph = log.graph()
    component = RECOMMENDERS.get(name)
    recommender = component(graph, features, torch.Generator().manual_seed(seed), **settings.get("recommender", {}))
    objective = RankingObjective(recommender, Frozen(features))
    sampler = sampler_of(component)(
        graph.users, graph.items, log.n_items, batch_size=settings.get("batch_size", "auto")
    )
    evaluator = Evaluator(ks=[20], metrics=["recall"])

    def recall(part: int) -> float:
        start = time.perf_counter()
        with torch.inference_mode():
            scorer = recommender.embed(features)
            assert isinstance(scorer, Embeddings)
            report = evaluator.evaluate(scorer, log.parts[part], [log.parts[0]])
        users.append(len(report.users) / (time.perf_counter() - start))
        return float(report.mean[METRIC])

    def validate() -> dict[str, float]:
        value = recall(1)
        points.append((time.perf_counter() - began, value))
        return {METRIC: value}

    train = dict(settings["train"])
    if validations:
        train["epochs"] = validations * train.get("evaluate_every", 1)
    history = Trainer(metric=METRIC, device="cpu", seed=seed, **train).fit(objective, sampler, validate)
    return {
        "curve": points,
        "best": history.best,
        "test": recall(2),
        "users_per_second": statistics.median(users),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "settings": dict(settings),
    }


if __name__ == "__main__":
    model, where, given, *numbers = sys.argv[1:]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    print(json.dumps(curve(model, where, json.loads(given), *map(int, numbers))))
