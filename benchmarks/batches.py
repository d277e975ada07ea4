"""What larger batches cost in quality: LightGCN and BPR on a real log with 2,048 and 8,192 triples a batch.

    python benchmarks/batches.py [--data baby] [--seeds 3]

`batch_size = "auto"` leaves an epoch 128 batches, or 32 where each step reads the whole graph (docs/decisions/0009). On
Baby 8,192 triples leave 15, which is harsher. One learning rate for all, and twice that beside it. Needs the
shared data (LMM4REC_SHARED).
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _logs import SHARED
from _results import write
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.run import run

MODELS: dict[str, dict[str, Any]] = {"bpr": {"l2_weight": 1e-2}, "lightgcn": {"l2_weight": 1e-3}}
SETTINGS = {"2,048": (2048, 2e-3), "8,192": (8192, 2e-3), "8,192 at twice the rate": (8192, 4e-3)}
TRAIN = {"epochs": 200, "evaluate_every": 3, "patience": 6}


def measure(name: str, data: str, batch_size: int, rate: float, seeds: int, cache: DataCache) -> dict[str, float]:
    values, seconds = list[float](), list[float]()
    for seed in range(seeds):
        conf = {
            "data": {"name": "mmrec", "path": str(SHARED / "data/mmrec" / data)},
            "split": {"method": "labels"},
            "recommender": {"name": name, **MODELS[name]},
            "train": {**TRAIN, "batch_size": batch_size, "learning_rate": rate, "seed": seed},
        }
        with TemporaryDirectory() as folder:
            metrics = run(conf, out=Path(folder) / "run", data=cache).metrics
        values.append(metrics["test"]["recall@20"])
        seconds.append(metrics["cost"]["train_seconds"])
    found = {"mean": statistics.mean(values), "train_seconds": statistics.median(seconds)}
    return found | ({"spread": statistics.stdev(values)} if seeds > 1 else {})


def main() -> None:
    parser = argparse.ArgumentParser(description="Quality at larger batches")
    parser.add_argument("--data", default="baby", choices=["baby", "sports", "clothing"])
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if not SHARED.is_dir():
        print(f"skipped: no shared data at {SHARED}; name another folder in LMM4REC_SHARED")
        return
    cache, rows = DataCache(), dict[str, dict[str, Any]]()
    for name in MODELS:
        for title, setting in SETTINGS.items():
            row = rows.setdefault(name, {})[title] = measure(name, given.data, *setting, given.seeds, cache)
            print(f"{name:10} {title:24} {row}", flush=True)
    write("batches", {"data": given.data, "seeds": given.seeds, "models": rows})


if __name__ == "__main__":
    main()
