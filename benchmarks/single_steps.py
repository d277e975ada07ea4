"""BPR in single steps (`bprsgd`) beside BPR in mini-batches (`bpr`) and the C++ of implicit, in turn in one run.

    python benchmarks/single_steps.py --python PATH [--rounds 3]    # a Python with implicit

Seconds an epoch on Baby and on a log of Electronics' size, dim 64, medians over the rounds, of implicit with one and
with two threads; the others take one. Validation recall@20 on Baby after all epochs: implicit's best of three weights
of regularization. Needs the shared data for recall (LMM4REC_SHARED).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from _logs import Log, load
from _results import HERE, write
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.core.types import Embeddings, Scorer
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.features.source import Frozen
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import sampler_of
from lmm4rec.training.trainer import Trainer

SETTINGS: dict[str, dict[str, Any]] = {"bprsgd": {"step_size": 0.1, "l2_weight": 0.06}, "bpr": {"l2_weight": 0.1}}
TRAIN = {"learning_rate": 2e-3, "weight_average": 0.8, "metric": "recall@20", "device": "cpu"}
L2_WEIGHTS, EPOCHS = (0.01, 0.03, 0.06), 300
SPEED_EPOCHS = {"baby": 10, "large": 2}


def ours(name: str, log: Log, epochs: int, *, validates: bool) -> tuple[float, float | None]:
    """Seconds of an epoch, the first left out (it compiles), and the best validation recall."""
    graph, starts = log.graph(), list[float]()
    component = RECOMMENDERS.get(name)
    recommender = component(graph, {}, torch.Generator().manual_seed(0), **SETTINGS[name])
    batches = sampler_of(component)(graph.users, graph.items, log.n_items)

    def validate() -> dict[str, float]:
        starts.append(time.perf_counter())
        with torch.inference_mode():
            return {"recall@20": recall(recommender.embed({}), log) if validates else 0.0}

    trainer = Trainer(epochs=epochs + 1, evaluate_every=4 if validates else 1, patience=10, **TRAIN)  # type: ignore[arg-type]
    history = trainer.fit(RankingObjective(recommender, Frozen({})), batches, validate)
    seconds = float(np.median(np.diff(starts)))
    return seconds, history.best if validates else None


def recall(scorer: Scorer, log: Log) -> float:
    """Validation recall@20 over all items, training items masked."""
    train, valid, _ = log.parts
    return Evaluator(ks=[20], metrics=["recall"]).evaluate(scorer, valid, [train]).mean["recall@20"]


def implicit(log: Log, python: str, epochs: int, threads: int, l2_weight: float) -> tuple[float, float]:
    """Seconds of an epoch, and validation recall after the last."""
    train, sizes = log.parts[0], {"n_users": log.n_users, "n_items": log.n_items}
    with TemporaryDirectory() as folder:
        given, factors = Path(folder) / "log.npz", Path(folder) / "factors.npz"
        np.savez(given, users=train.users, items=train.items, **sizes)  # type: ignore[arg-type]
        settings = [str(epochs), str(threads), str(l2_weight)]
        command = [python, str(HERE / "_implicit_bpr.py"), str(given), str(factors), *settings]
        seconds = float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])
        with np.load(factors) as found:
            return seconds, recall(Embeddings(*(torch.from_numpy(found[side]) for side in ("users", "items"))), log)


def speed(data: str, python: str, rounds: int) -> dict[str, Any]:
    """Seconds an epoch of each, in turn, and their medians."""
    log, epochs = load(data), SPEED_EPOCHS[data]
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name in SETTINGS if data == "baby" else ["bprsgd"]:  # mini-batches take minutes on the large log
            found.setdefault(name, []).append(ours(name, log, epochs, validates=False)[0])
        for threads in (1, 2):
            seconds = implicit(log, python, epochs, threads, L2_WEIGHTS[0])[0]
            found.setdefault(f"implicit, {threads} threads", []).append(seconds)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    print(data, medians, flush=True)
    return {"log": log.source, "seconds_an_epoch": medians, "rounds": found}


def main() -> None:
    parser = argparse.ArgumentParser(description="BPR in single steps")
    parser.add_argument("--python", default="", help="a Python that has implicit")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    if not given.python:
        sys.exit("skipped: name a Python that has implicit with --python")
    torch.set_num_threads(1)
    values: dict[str, Any] = {"settings": SETTINGS, "train": TRAIN, "epochs": EPOCHS}
    values |= {data: speed(data, given.python, given.rounds) for data in SPEED_EPOCHS}
    log = load("baby")
    found = {str(l2): implicit(log, given.python, EPOCHS, 1, l2)[1] for l2 in L2_WEIGHTS}
    values["validation"] = {name: ours(name, log, EPOCHS, validates=True)[1] for name in SETTINGS}
    values["validation"]["implicit"] = found
    print(values["validation"], flush=True)
    write("single_steps", values)


if __name__ == "__main__":
    main()
