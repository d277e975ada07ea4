"""One model over several processes: seconds and bytes of a step, memory of a process, and the largest tables held.

    python benchmarks/scale.py
    python benchmarks/scale.py --part steps --rows 20000 --pairs 100000 --steps 4      # a try
    python benchmarks/scale.py --part largest --rows 20000000                          # needs most of 24 GiB

Each process has one thread. Targets on two idle cores: two processes take a step of BPR or LightGCN with tables of 2
million rows 1.5 times as fast as one, and an encoder-bound epoch 1.7 times. Beside what is measured stand the formulas
of docs/guide/scale.md.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from _results import HERE, write
from lmm4rec.distributed.launch import run_in_processes
from processes import CONF, epoch_seconds

DIM = 64
ROUNDS = 3


def measured(processes: int, **options: Any) -> dict[str, Any]:
    """What the processes of a group measured: seconds, memory and bytes are the mean of them, the loss is one."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found"
        flags = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        command = [sys.executable, str(HERE / "_scale_step.py"), "--out", str(out), *flags]
        if run_in_processes(lambda _: command, processes):
            raise SystemExit(f"{processes} processes failed")
        found = [json.loads((out.parent / f"found-{rank}.json").read_text()) for rank in range(processes)]
    names = ("step_s", "sent_mb_a_step", "built_s", "before_mb", "peak_mb", "tables_mb", "loss")
    return {name: round(sum(one[name] for one in found) / processes, 6) for name in names}


def median_of(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def sent_mb(model: str, processes: int, rows: int, batch: int) -> float:
    """The formula: MB that a process sends in a step."""
    remote = (processes - 1) / processes
    if model == "bpr":  # three rows a triple: an id, a vector and a gradient
        return 3 * batch / processes * remote * (8 + 8 * DIM) / 1e6
    return 4 * rows * 4 * DIM * remote / 1e6  # the table, the first layer, and both layers backward


def steps(rows: int, pairs: int, count: int, models: list[str], processes: list[int]) -> dict[str, Any]:
    """Each number of processes for each model, in turn, several times: medians."""
    found: dict[str, Any] = {}
    for model in models:
        users = rows // 2 if model == "bpr" else 3 * rows // 4
        batch = min(32_768 if model == "bpr" else 16_384, pairs // 10)
        shape = {"users": users, "items": rows - users, "pairs": pairs, "batch": batch, "steps": count}
        rounds = [{n: measured(n, model=model, **shape) for n in processes} for _ in range(ROUNDS)]
        by_processes = {n: median_of([one[n] for one in rounds]) for n in processes}
        for n, one in by_processes.items():
            one["formula_sent_mb"] = round(sent_mb(model, n, rows, batch), 6)
            speeds = [each[processes[0]]["step_s"] / each[n]["step_s"] for each in rounds]
            one["speeds"], one["speed"] = [round(each, 3) for each in speeds], round(statistics.median(speeds), 3)
        found[f"{model}, {pairs:,} interactions"] = {**shape, "by_processes": by_processes}
    return found


def apart(rows: int, pairs: int, count: int) -> dict[str, Any]:
    """Two processes of BPR at the same time, each with half of the rows, and with nothing to exchange: the ceiling."""
    halves = [
        f"--{name}={value}"
        for name, value in (("users", rows // 4), ("items", rows // 4), ("pairs", pairs // 2), ("batch", 16_384))
    ]
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder) / f"half-{number}" for number in range(2)]
        command = [sys.executable, str(HERE / "_scale_step.py"), f"--steps={count}", *halves]
        started = [subprocess.Popen([*command, f"--out={out}"]) for out in outs]
        if any(one.wait() for one in started):
            raise SystemExit("a process failed")
        seconds = [json.loads(out.with_name(f"{out.name}-0.json").read_text())["step_s"] for out in outs]
    whole = measured(1, model="bpr", users=rows // 2, items=rows // 2, pairs=pairs, batch=32_768, steps=count)["step_s"]
    return {"whole_s": whole, "halves_s": seconds, "speed": whole / max(seconds)}


def encoder_bound() -> dict[str, Any]:
    """An epoch of end-to-end training, by `lmm4rec run --processes`: several times in turn, medians."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(ROUNDS):
        for processes, found in seconds.items():
            with tempfile.TemporaryDirectory() as folder:
                found.append(epoch_seconds(processes, Path(folder), CONF.format(items=500, epochs=3)))
    speeds = [one / two for one, two in zip(seconds[1], seconds[2], strict=True)]
    return {"seconds_an_epoch": seconds, "speed": statistics.median(speeds)}


def largest(rows: int) -> dict[str, Any]:
    """Two processes with users and items as 4 to 1; it takes part of what memory is free, and says how much."""
    free = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemAvailable"))
    shape = {"users": 4 * rows // 5, "items": rows // 5, "pairs": 4_000_000, "batch": 32_768, "steps": 6}
    found = measured(2, model="bpr", **shape)
    return {
        **shape,
        "free_gb_before": int(free.split()[1]) * 1024 / 1e9,
        **found,
        "formula_tables_mb": 6e-6 * rows * DIM,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=["steps", "apart", "encoder", "largest"], action="append")
    parser.add_argument("--model", choices=["bpr", "lightgcn"], action="append")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--pairs", type=int, default=20_000_000)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--name", default="scale", help="of the JSON file; what it has of other parts stays")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    before = HERE / "results" / f"{options.name}.json"
    values = json.loads(before.read_text())["values"] if before.exists() else {}
    parts = options.part or ["steps", "encoder"]
    if "steps" in parts:
        models = options.model or ["bpr", "lightgcn"]
        values["steps"] = values.get("steps", {}) | steps(
            options.rows, options.pairs, options.steps, models, options.processes
        )
    if "apart" in parts:
        values["bpr_apart"] = apart(options.rows, options.pairs, options.steps)
    if "encoder" in parts:
        values["encoder_bound"] = encoder_bound()
    if "largest" in parts:
        values["largest"] = largest(options.rows)
    write(options.name, values)


if __name__ == "__main__":
    main()
