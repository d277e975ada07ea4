"""Milliseconds a batch, seconds an epoch, evaluation and memory of every trained model, whole loop.

    python benchmarks/speed.py                                      # all models on Baby's log
    python benchmarks/speed.py --data sports large --models slmrec  # one row; the others of the file stay
    python benchmarks/speed.py --electronics --batches 3            # epochs on Baby and at the size of Electronics

Dim 64, batch 2,048 (`--electronics`: the default), features of 4,096 and 384 seeded normal numbers, two threads, each
model in a process of its own. Sampling, losses, backward pass and optimizer are all in a batch's time: the median of
`--batches`. An epoch is extrapolated from it. `toolbox.py` and `peers.py` run the public toolbox and libraries beside
ours.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import torch

from _kernels import bare, kernels
from _logs import load
from _results import HERE, write
from lmm4rec.core.files import read_json
from lmm4rec.core.registry import RECOMMENDERS, hyper_parameters

THREADS = 2
SETTINGS: dict[str, dict[str, Any]] = {"lightgcn": {"layers": 1}}  # as the toolbox was measured
SETTINGS |= {f"{name}, features trained": {"train_features": True} for name in ("bm3", "freedom")}
TARGETS = {"lightgcn": 25.0, "vbpr": 60.0}  # milliseconds a batch
USERS_PER_SECOND = 20_000
EPOCHS, GIGABYTES = 12.0, 6.0  # at the size of Electronics: epochs of Baby, and memory


def trained_models() -> list[str]:
    """All of gradient steps that have a `dim`. Last, those that can train the features, doing so."""
    components = {name: RECOMMENDERS.get(name) for name in RECOMMENDERS.names()}
    names = [name for name, each in components.items() if "dim" in hyper_parameters(each) and not each.is_solved]
    return names + [name for name in SETTINGS if name not in names]


def measure(name: str, data: str, batches: int, threads: int, batch_size: str = "2048", *only: str) -> dict[str, Any]:
    """One row, from a process of its own."""
    settings = json.dumps(SETTINGS.get(name, {}))
    command = [
        sys.executable,
        str(HERE / "_step.py"),
        name.partition(",")[0],
        data,
        str(batches),
        settings,
        batch_size,
        *only,
    ]
    env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    answer = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
    print(f"{data:10} {name:10} {row['milliseconds_a_batch']:8.1f} ms a batch  {row}", flush=True)
    return row


def speed(data: str, models: Sequence[str], batches: int, threads: int) -> None:
    """Measure and write one log's file; rows of models that were not asked for stay."""
    path = HERE / "results" / f"speed_{data}.json"
    kept = read_json(path)["values"] if path.exists() else {}
    rows = kept.get("models", {}) | {name: measure(name, data, batches, threads) for name in models}
    log = load(data)
    values: dict[str, Any] = {"log": log.source, "users": log.n_users, "items": log.n_items}
    values |= {"training_interactions": len(log.parts[0]), "threads": threads, "batch": 2048, "dim": 64}
    values["models"] = dict(sorted(rows.items()))
    slow = [name for name, row in rows.items() if row["evaluated_users_per_second"] < USERS_PER_SECOND]
    values["evaluation"] = {"target_users_per_second": USERS_PER_SECOND, "slower": slow}
    values["kernels"] = kernels(log)
    if data == "baby":
        floor = bare(log)
        taken = {name: rows[name]["milliseconds_a_batch"] for name in floor if name in rows}
        values["bare_kernels"] = {
            "milliseconds": floor,
            "ratio": {name: taken[name] / floor[name] for name in taken},
            "target_milliseconds": TARGETS,
            "target_met": {name: taken[name] <= TARGETS[name] for name in taken},
        }
    write(f"speed_{data}", values)


def electronics(models: Sequence[str], batches: int, threads: int) -> None:
    """An epoch at the size of Amazon Electronics over one on Baby, both with the default batches, in turn."""
    path = HERE / "results" / "speed_electronics.json"
    rows = read_json(path)["values"]["models"] if path.exists() else {}
    for name in models:
        small = measure(name, "baby", 10 * batches, threads, "auto", "epoch")
        large = measure(name, "large", batches, threads, "auto", "epoch")
        ratio = large["epoch_seconds_extrapolated"] / small["epoch_seconds_extrapolated"]
        gigabytes = large["peak_memory_in_training_mb"] / 1024
        met = ratio <= EPOCHS and gigabytes <= GIGABYTES
        rows[name] = {"baby": small, "electronics": large, "epoch_ratio": ratio, "target_met": met}
        print(f"{name}: {ratio:.1f} times an epoch on Baby, {gigabytes:.1f} GiB", flush=True)
        write("speed_electronics", {"target": {"times": EPOCHS, "gigabytes": GIGABYTES}, "models": rows})


def main() -> None:
    parser = argparse.ArgumentParser(description="How long every trained model takes")
    parser.add_argument("--data", nargs="+", default=["baby"], choices=["baby", "sports", "clothing", "large"])
    parser.add_argument("--models", nargs="+", default=trained_models(), choices=trained_models())
    parser.add_argument("--batches", type=int, default=30, help="how many are timed, after two warm ones")
    parser.add_argument("--threads", type=int, default=THREADS, help="of each process")
    parser.add_argument(
        "--electronics", action="store_true", help="measure epochs on Baby and at the size of Electronics"
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.electronics:
        electronics(given.models, given.batches, given.threads)
    else:
        for data in given.data:
            speed(data, given.models, given.batches, given.threads)


if __name__ == "__main__":
    main()
