"""Epochs and seconds of a warm start beside a cold one, after 5 % new interactions.

    python benchmarks/warm_start.py [--seeds 3] [films:bpr baby:lightgcn ...]

Yesterday's model is trained without a twentieth of the training interactions, drawn at random. Today's is trained on
all of them from nothing and with `train.start_from`, under the same seed and conf. The model that is kept after some
epochs is the one that validated best until then; its validation recall, in the mean over seeds, is compared: the cold
start's at the end, and the first epoch at which each side has it. Beside that, for each seed, the first epoch that
reaches the cold start's best, or is within the deviation over seeds of it; and the test recall.
Jobs that the results file has already stay in it. Needs the shared data (LMM4REC_SHARED).
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
from collections.abc import Iterable
from itertools import accumulate
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
    "films:bprsgd": {"l2_weight": 1.5e-2, "step_size": 0.1},
    "baby:bprsgd": {"l2_weight": 6e-2, "step_size": 0.1},
}
TRAIN: dict[str, Any] = {"epochs": 200, "evaluate_every": 1, "patience": 25, "learning_rate": 2e-3, "batch_size": 2048}
TRAIN["weight_average"] = 0.9  # without it the best of a hundred noisy validations is what a warm start has to reach
LAST = TRAIN["epochs"]
METRIC = "recall@20"
NEW = 0.05  # of the training interactions


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


def measure(data: str, name: str, seed: int) -> dict[str, Any]:
    source = SHARED / "data/mmrec" / data
    with TemporaryDirectory() as place:
        yesterday(source, before := Path(place) / data, seed)
        first = run(conf(before, name, seed), out=Path(place) / "yesterday")
        cold = run(conf(source, name, seed), out=Path(place) / "cold")
        start = {"train.start_from": str(first.folder.path)}
        warm = run(conf(source, name, seed), start, out=Path(place) / "warm")
        runs = {"cold": cold, "warm": warm}
        return {
            "level": cold.metrics["valid"][METRIC],
            "curves": {n: " ".join(f"{row[METRIC]:.5f}" for row in r.history) for n, r in runs.items()},
            "seconds_an_epoch": {n: round(seconds_an_epoch(r), 3) for n, r in runs.items()},
            **{part: values({"yesterday": first, **runs}, part) for part in ("valid", "test")},
        }


def seconds_an_epoch(result: Result) -> float:
    """The seconds of an epoch, with its validation."""
    return float(result.metrics["cost"]["train_seconds"]) / len(result.history)


def values(runs: dict[str, Result], part: str) -> dict[str, float]:
    return {name: result.metrics[part][METRIC] for name, result in runs.items()}


def first_at(curve: Iterable[float], level: float) -> float:
    """The first epoch, from 1, at which the validation metric is at least `level` to five digits; infinite if none."""
    return next((epoch for epoch, v in enumerate(curve, start=1) if round(v, 5) >= round(level, 5)), math.inf)


def summary(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Epochs by seed and median ratios warm / cold to both levels, and the test metric over seeds."""
    levels = [s["level"] for s in seeds]
    spread = statistics.stdev(levels) if len(seeds) > 1 else 0.0
    test = {
        name: {
            "mean": round(statistics.mean(s["test"][name] for s in seeds), 5),
            "deviation": round(statistics.stdev(s["test"][name] for s in seeds), 5) if len(seeds) > 1 else None,
        }
        for name in seeds[0]["test"]
    }
    reach = {"mean": of_means(seeds), "to_best": to_level(seeds, 0.0), "within_spread": to_level(seeds, spread)}
    return {**reach, "spread": round(spread, 5), "test": test, "seeds": seeds}


def of_means(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Epochs until the kept model has the cold start's last validation metric, both in the mean over seeds."""
    means = {name: kept_means([s["curves"][name] for s in seeds]) for name in ("cold", "warm")}
    level = means["cold"][-1]
    epochs = {name: first_at(curve, level) for name, curve in means.items()}
    seconds = {n: statistics.mean(s["seconds_an_epoch"][n] for s in seeds) * e for n, e in epochs.items()}
    ratios = {"epochs_ratio": epochs["warm"] / epochs["cold"], "seconds_ratio": seconds["warm"] / seconds["cold"]}
    finite = {name: round(value, 3) if math.isfinite(value) else None for name, value in (epochs | ratios).items()}
    return {"level": round(level, 5), **finite}


def kept_means(curves: list[str]) -> list[float]:
    """The mean over seeds of the best validation until each epoch; a training that has stopped keeps its best."""
    best = [list(accumulate(map(float, curve.split()), max)) for curve in curves]
    return [statistics.mean(epoch) for epoch in zip(*(b + b[-1:] * (LAST - len(b)) for b in best), strict=True)]


def to_level(seeds: list[dict[str, Any]], below: float) -> dict[str, Any]:
    """Epochs of each run to the cold start's best validation less `below`, and the median ratios warm / cold.

    A run that never gets there counts as infinitely long, and is None in the result.
    """
    epochs = [{n: first_at(map(float, c.split()), s["level"] - below) for n, c in s["curves"].items()} for s in seeds]
    ratios = [row["warm"] / row["cold"] for row in epochs]
    costs = [s["seconds_an_epoch"]["warm"] / s["seconds_an_epoch"]["cold"] for s in seeds]
    found: dict[str, Any] = {"epochs": [{n: e if math.isfinite(e) else None for n, e in row.items()} for row in epochs]}
    for what, each in (("epochs", ratios), ("seconds", [r * c for r, c in zip(ratios, costs, strict=True)])):
        median = statistics.median(each)
        found[f"{what}_ratio"] = round(median, 3) if math.isfinite(median) else None
    return found


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
