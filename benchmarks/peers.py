"""Ours and what a user could install instead, on the same log in the same run, at equal quality.

    python benchmarks/peers.py --python PATH [--data baby large]   # a Python with implicit, lenskit and cornac

Each library trains ten epochs (implicit a hundred, and once a thousand) at its own settings; ours trains at learning
rate 2e-3 until it no longer gains, and the epochs count until its recall@20 on the validation part is the library's.
Validation takes no part in the seconds. Dim 64, batch 2,048, two threads on both sides, each in processes of its own,
one after the other. VBPR has 4,096 seeded numbers.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
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
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer

THREADS, EPOCHS = 2, 60
OURS: dict[str, dict[str, Any]] = {"bpr": {}, "lightgcn": {"layers": 1}, "vbpr": {"content_dim": 64}}
RATE = 2e-3


def recall(scorer: Scorer, log: Log) -> float:
    """Validation recall@20 over all items, training items masked."""
    train, valid, _ = log.parts
    return Evaluator(ks=[20], metrics=["recall"]).evaluate(scorer, valid, [train]).mean["recall@20"]


def peers(log: Log, image: np.ndarray, python: str) -> dict[str, Any]:
    """What each library takes an epoch, and how well it then ranks."""
    train = log.parts[0]
    sizes = {"n_users": log.n_users, "n_items": log.n_items}
    with TemporaryDirectory() as folder:
        given, factors = Path(folder) / "log.npz", Path(folder) / "factors.npz"
        np.savez(given, users=train.users, items=train.items, image=image, **sizes)  # type: ignore[arg-type]
        env = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": "", "OPENBLAS_NUM_THREADS": "1"}
        command = [python, str(HERE / "_peer.py"), str(given), str(factors)]
        answer = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
        rows: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
        with np.load(factors) as found:
            for name, row in rows.items():
                if "skipped" not in row:
                    sides = (torch.from_numpy(found[f"{name}.{side}"]) for side in ("users", "items"))
                    row["recall@20"] = recall(Embeddings(*sides), log)
    return rows


def train(name: str, data: str, results: Any) -> None:
    """Ours: the seconds of every epoch and the recall after it."""
    torch.set_num_threads(THREADS)
    log = load(data)
    features = {"image": torch.from_numpy(drawn(log))} if name == "vbpr" else {}
    graph, seconds, recalls = log.graph(), list[float](), list[float]()
    component = RECOMMENDERS.get(name)
    recommender = component(graph, features, torch.Generator().manual_seed(0), **OURS[name])
    began = time.perf_counter()

    def validate() -> dict[str, float]:
        nonlocal began
        seconds.append(time.perf_counter() - began)
        with torch.inference_mode():
            recalls.append(recall(recommender.embed(features), log))
        began = time.perf_counter()
        return {"recall@20": recalls[-1]}

    trainer = Trainer(epochs=EPOCHS, learning_rate=RATE, patience=6, device="cpu")
    sampler = TripleSampler(graph.users, graph.items, log.n_items, batch_size=2048)
    trainer.fit(RankingObjective(recommender, Frozen(features)), sampler, validate)
    results.put({"seconds": seconds, "recalls": recalls})


def drawn(log: Log) -> np.ndarray:
    """The features that both sides' VBPR gets."""
    return np.random.default_rng(0).standard_normal((log.n_items, 4096), dtype=np.float32)


def beside(row: dict[str, Any], ours: dict[str, Any]) -> dict[str, Any]:
    """Ours against one library's row: an epoch, and all epochs that the same recall takes."""
    epoch = statistics.median(ours["seconds"])
    found: dict[str, Any] = {"our_epoch_seconds": epoch, "epoch_ratio": epoch / row["epoch_seconds"]}
    found["our_best_recall@20"] = max(ours["recalls"])
    reached = [at for at, value in enumerate(ours["recalls"]) if value >= row["recall@20"]]
    if reached:
        seconds = sum(ours["seconds"][: reached[0] + 1])
        found |= {"our_epochs": reached[0] + 1, "our_seconds": seconds}
        found["ratio_at_equal_quality"] = seconds / (row["epoch_seconds"] * row["epochs"])
    return found


def race(data: str, python: str) -> None:
    log = load(data)
    rows = peers(log, drawn(log), python)
    measured = {name: apart(name, data) for name in sorted({row["ours"] for row in rows.values()})}
    for name, row in rows.items():
        if "skipped" not in row:
            row.update(beside(row, measured[row["ours"]]))
        print(f"{data:10} {name:18} {row}", flush=True)
    values = {"log": log.source, "threads": THREADS, "settings": OURS, "learning_rate": RATE, "peers": rows}
    write(f"peers_{data}", values)


def apart(name: str, data: str) -> dict[str, Any]:
    """Ours, trained in a process of its own."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=train, args=(name, data, results))
    process.start()
    found: dict[str, Any] = results.get()
    process.join()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Ours beside libraries that can be installed")
    parser.add_argument("--python", default="", help="a Python that has implicit, lenskit and cornac")
    parser.add_argument("--data", nargs="+", default=["baby"], choices=["baby", "sports", "clothing", "large"])
    given = parser.parse_args()
    if not given.python:
        print("skipped: name a Python that has implicit, lenskit and cornac with --python")
        return
    for data in given.data:
        race(data, given.python)


if __name__ == "__main__":
    main()
