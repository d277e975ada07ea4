"""Epochs and seconds of a warm start beside a cold one, after 5 % new interactions.

    python benchmarks/warm_start.py [--seeds 3] [films:bpr baby:lightgcn ...]

Yesterday's model is trained without a twentieth of the training interactions, drawn at random. Today's is trained on
all of them from nothing and with `train.start_from`, under the same seed and conf, and once more with half the learning
rate: weights near their optimum need smaller steps. What counts is the first epoch whose validation recall reaches the
best one of the cold start, and the test recall. Jobs that the results file has already stay in it. Needs the shared
data (LMM4REC_SHARED).
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from _logs import SHARED
from _results import HERE, write
from lmm4rec.experiments.result import Result
from lmm4rec.experiments.run import run

SETTINGS: dict[str, dict[str, Any]] = {  # by validation
    "films:bpr": {"l2_weight": 1e-2},
    "films:lightgcn": {"l2_weight": 1e-3},
    "films:vbpr": {"l2_weight": 1e-2},
    "films:freedom": {},
    "baby:bpr": {"l2_weight": 1e-1},
    "baby:lightgcn": {"l2_weight": 1e-3},
}
TRAIN = {"epochs": 200, "evaluate_every": 1, "patience": 15, "learning_rate": 2e-3, "batch_size": 2048}
METRIC = "recall@20"
NEW = 0.05  # of the training interactions
HALF = {"train.learning_rate": TRAIN["learning_rate"] / 2}
WARM = ("warm", "warm_half_rate")


def yesterday(source: Path, folder: Path, seed: int) -> None:
    """A copy of a folder in MMRec's layout without some of its training interactions."""
    folder.mkdir()
    for file in source.iterdir():
        if file.suffix != ".inter":
            shutil.copy(file, folder / file.name)
            continue
        log = pl.read_csv(file, separator="\t")
        drawn = np.random.default_rng(seed).random(len(log)) < NEW
        log.filter(~pl.Series(drawn) | (pl.col("x_label") != 0)).write_csv(folder / file.name, separator="\t")


def conf(path: Path, name: str, seed: int) -> dict[str, Any]:
    content = {"encoder": {"name": "precomputed"}} if name in ("vbpr", "freedom") else {}
    return content | {
        "data": {"name": "mmrec", "path": str(path)},
        "split": {"method": "labels"},
        "recommender": {"name": name, **SETTINGS[f"{path.name}:{name}"]},
        "train": {**TRAIN, "seed": seed},
    }


def reached(result: Result, level: float) -> int | None:
    """The first epoch at which the validation metric is at least `level`."""
    return next((int(row["epoch"]) for row in result.history if row[METRIC] >= level), None)


def measure(data: str, name: str, seed: int) -> dict[str, Any]:
    source = SHARED / "data/mmrec" / data
    with TemporaryDirectory() as place:
        yesterday(source, before := Path(place) / data, seed)
        first = run(conf(before, name, seed), out=Path(place) / "yesterday")
        cold = run(conf(source, name, seed), out=Path(place) / "cold")
        start = {"train.start_from": str(first.folder.path)}
        warm = run(conf(source, name, seed), start, out=Path(place) / "warm")
        half = run(conf(source, name, seed), start | HALF, out=Path(place) / "warm_half_rate")
        level = cold.metrics["valid"][METRIC]
        runs = {"cold": cold, "warm": warm, "warm_half_rate": half}
        epochs = {n: reached(r, level) for n, r in runs.items()}
        return {
            "level": level,
            "epochs": epochs,
            "seconds": {n: seconds(runs[n], e) for n, e in epochs.items() if e},
            **{part: values({"yesterday": first, **runs}, part) for part in ("valid", "test")},
        }


def seconds(result: Result, epochs: int) -> float:
    """The seconds of that many epochs, with their validations."""
    return round(float(result.metrics["cost"]["train_seconds"]) / len(result.history) * epochs, 2)


def values(runs: dict[str, Result], part: str) -> dict[str, float]:
    return {name: result.metrics[part][METRIC] for name, result in runs.items()}


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of warm / cold, None where the cold start's recall is never reached, and the test metric over seeds."""

    def ratio(name: str, cost: str) -> float | None:
        ratios = [s[cost][name] / s[cost]["cold"] if s[cost].get(name) else math.inf for s in seeds]
        median = statistics.median(ratios)
        return round(median, 3) if math.isfinite(median) else None

    test = {
        name: {
            "mean": round(statistics.mean(s["test"][name] for s in seeds), 5),
            "deviation": round(statistics.stdev(s["test"][name] for s in seeds), 5) if len(seeds) > 1 else None,
        }
        for name in seeds[0]["test"]
    }
    ratios = {f"{cost}_ratio_{name}": ratio(name, cost) for cost in ("epochs", "seconds") for name in WARM}
    return {**ratios, "test": test, "seeds": seeds}


def main() -> None:
    parser = argparse.ArgumentParser(description="A warm start beside a cold one")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("jobs", nargs="*", default=list(SETTINGS), metavar="DATA:MODEL")
    given = parser.parse_args()
    if not SHARED.is_dir():
        print(f"skipped: no shared data at {SHARED}; name another folder in LMM4REC_SHARED")
        return
    file = HERE / "results/warm_start.json"
    rows: dict[str, Any] = json.loads(file.read_text())["values"]["jobs"] if file.exists() else {}
    for job in given.jobs:
        data, name = job.split(":")
        rows[job] = summary([measure(data, name, seed) for seed in range(given.seeds)])
        print(job, {name: value for name, value in rows[job].items() if name != "seeds"}, flush=True)
        write("warm_start", {"new": NEW, "metric": METRIC, "train": TRAIN, "jobs": rows})


if __name__ == "__main__":
    main()
