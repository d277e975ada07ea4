"""Epochs and seconds of a warm start beside a cold one, after 5 % new interactions.

    python benchmarks/warm_start.py [--seeds 3] [films:bpr baby:lightgcn ...]

Yesterday's model is trained without a twentieth of the training interactions, drawn at random. Today's is trained on
all of them twice, from nothing and with `train.start_from`, under the same seed and conf. What counts is the first
epoch whose validation recall reaches the best one of the cold start, and the test recall. Needs the shared data
(LMM4REC_SHARED).
"""

from __future__ import annotations

import argparse
import shutil
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl

from _logs import SHARED
from _results import write
from lmm4rec.experiments.result import Result
from lmm4rec.experiments.run import run

MODELS: dict[str, dict[str, Any]] = {
    "bpr": {"l2_weight": 1e-2},
    "lightgcn": {"l2_weight": 1e-3},
    "vbpr": {"l2_weight": 1e-2},
    "freedom": {},
}
TRAIN = {"epochs": 200, "evaluate_every": 1, "patience": 15, "learning_rate": 2e-3, "batch_size": 2048}
METRIC = "recall@20"
NEW = 0.05  # of the training interactions
JOBS = ["films:bpr", "films:lightgcn", "films:vbpr", "films:freedom", "baby:bpr", "baby:lightgcn"]


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
        "recommender": {"name": name, **MODELS[name]},
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
        level = cold.metrics["valid"][METRIC]
        epochs = {"cold": reached(cold, level), "warm": reached(warm, level)}
        per_epoch = {
            n: r.metrics["cost"]["train_seconds"] / len(r.history) for n, r in (("cold", cold), ("warm", warm))
        }
        return {
            "level": level,
            "epochs": epochs,
            "seconds": {n: round(per_epoch[n] * e, 2) for n, e in epochs.items() if e},
            "valid": {
                "cold": level,
                "warm": warm.metrics["valid"][METRIC],
                "yesterday": first.metrics["valid"][METRIC],
            },
            "test": {n: r.metrics["test"][METRIC] for n, r in (("cold", cold), ("warm", warm), ("yesterday", first))},
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="A warm start beside a cold one")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("jobs", nargs="*", default=JOBS, metavar="DATA:MODEL")
    given = parser.parse_args()
    if not SHARED.is_dir():
        print(f"skipped: no shared data at {SHARED}; name another folder in LMM4REC_SHARED")
        return
    rows: dict[str, Any] = {}
    for job in given.jobs:
        data, name = job.split(":")
        seeds = [measure(data, name, seed) for seed in range(given.seeds)]
        ratios = [(s["epochs"]["warm"] or TRAIN["epochs"]) / s["epochs"]["cold"] for s in seeds]
        rows[job] = {"epochs_ratio": round(statistics.median(ratios), 3), "seeds": seeds}
        print(f"{job:16} epochs warm / cold {ratios}  test {[s['test'] for s in seeds]}", flush=True)
        write("warm_start", {"new": NEW, "metric": METRIC, "train": TRAIN, "jobs": rows})


if __name__ == "__main__":
    main()
