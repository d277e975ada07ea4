"""Seconds to the quality at which the public MMRec toolbox ends: each model and its peer in turn in one run.

    python benchmarks/time_to_quality.py --toolbox FOLDER --python PATH [--models bpr vbpr ...] [--seeds 2]

FOLDER is a checkout of the toolbox that runs on a CPU and has the log in `data/`; PATH is a Python with its
requirements. The peer trains each of the settings below, which are of its own grids, with its early stopping; the one
that validates best counts, and its best validation Recall@20 is the level. Ours trains on, stopping by its own early
stopping. Seconds are from the building of the model, validations included on both sides, to the first validation that
is at the level; where ours never is, the ratio is missing and counts as the worst. Models that are not asked for keep
their rows. Validation, test and memory are those of the whole training. Needs the shared data (LMM4REC_SHARED).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _logs import SHARED
from _results import HERE, write
from lmm4rec.core.files import read_json

SLOW: dict[str, Any] = {"epochs": 1000, "patience": 20, "learning_rate": 2e-3, "weight_average": 0.8}
QUICK = {**SLOW, "learning_rate": 5e-3}


def ours(recommender: dict[str, Any], train: dict[str, Any], batch_size: int = 2048) -> dict[str, Any]:
    return {"recommender": recommender, "train": train, "batch_size": batch_size}


OURS: dict[str, tuple[str, dict[str, Any]]] = {  # a peer's name here, our model and its settings
    "bpr": ("bprsgd", ours({"step_size": 0.1, "l2_weight": 0.015}, {**SLOW, "evaluate_every": 2})),
    "lightgcn": ("lightgcn", ours({"l2_weight": 1e-3, "layers": 2}, QUICK)),
    "vbpr": ("vbpr", ours({"l2_weight": 1e-2}, QUICK)),
    "freedom": ("freedom", ours({}, QUICK)),
    "lattice": ("lattice", ours({}, QUICK)),
    "bm3": ("bm3", ours({}, QUICK)),
    "slmrec": ("slmrec", ours({}, QUICK)),
    "mgcn": ("mgcn", ours({}, QUICK)),
    "lgmrec": ("lgmrec", ours({}, QUICK)),
    "grcn": ("grcn", ours({}, QUICK)),
    "mmgcn": ("mmgcn", ours({}, QUICK)),
}
PEERS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "bpr": ("BPR", [{"reg_weight": 0.1}, {"reg_weight": 0.01}]),
    "lightgcn": ("LightGCN", [{"n_layers": 2, "reg_weight": 1e-4}, {"n_layers": 2, "reg_weight": 1e-2}]),
    "vbpr": ("VBPR", [{"reg_weight": 0.1}, {"reg_weight": 0.01}]),
    "freedom": ("FREEDOM", [{"dropout": 0.8, "reg_weight": 1e-3}, {"dropout": 0.9, "reg_weight": 1e-4}]),
    "lattice": ("LATTICE", [{"reg_weight": 1e-4, "learning_rate": 1e-3}, {"reg_weight": 1e-3, "learning_rate": 5e-4}]),
    "bm3": ("BM3", [{"n_layers": 1, "dropout": 0.3, "reg_weight": 0.1}, {"n_layers": 2, "reg_weight": 0.01}]),
    "slmrec": ("SLMRec", [{"learning_rate": 1e-3, "reg": 1e-4, "ssl_alpha": 0.05, "ssl_temp": 0.2}]),
    "mgcn": ("MGCN", [{"cl_loss": 0.01}, {"cl_loss": 0.001}]),
    "lgmrec": ("LGMRec", [{}]),
    "grcn": ("GRCN", [{"reg_weight": 1e-3, "learning_rate": 1e-3}]),
    "mmgcn": ("MMGCN", [{"reg_weight": 1e-3, "learning_rate": 1e-3}]),
}


def trained(command: list[str], folder: Path | None = None) -> dict[str, Any]:
    """The JSON object that a training prints last."""
    env = {**os.environ, "PYTHONPATH": ""} if folder else None
    done = subprocess.run(command, env=env, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def theirs(name: str, data: str, seed: int, toolbox: Path, python: str) -> dict[str, Any]:
    """The training of the toolbox's setting that validates best."""
    peer, settings = PEERS[name]
    script = str(HERE / "_toolbox_curve.py")
    runs = [trained([python, script, peer, data, json.dumps(one), str(seed)], toolbox / "src") for one in settings]
    return max(runs, key=lambda run: run["best"])


def seconds_to(curve: list[list[float]], level: float) -> float:
    """The seconds of the first validation that is at the level, to four digits; infinite if none is."""
    return next((seconds for seconds, value in curve if round(value, 4) >= round(level, 4)), math.inf)


def beside(name: str, data: str, seeds: int, toolbox: Path, python: str) -> dict[str, Any]:
    """A model and its peer under each seed, and the median of their ratios."""
    model, settings = OURS[name]
    rounds: list[dict[str, Any]] = []
    for seed in range(seeds):
        peer = theirs(name, data, seed, toolbox, python)
        own = trained([sys.executable, str(HERE / "_training_curve.py"), model, data, json.dumps(settings), str(seed)])
        level = peer["best"]
        sides = {"ours": own, "toolbox": peer}
        seconds = {side: seconds_to(run.pop("curve"), level) for side, run in sides.items()}
        rounds.append({**sides, "seconds": seconds, "ratio": seconds["ours"] / seconds["toolbox"]})
    ratio = statistics.median(each["ratio"] for each in rounds)
    for each in rounds:
        if math.isinf(each["ratio"]):
            each["ratio"] = each["seconds"]["ours"] = None
    best = {side: statistics.mean(each[side]["test"] for each in rounds) for side in ("ours", "toolbox")}
    print(f"{name:10} ratio {ratio:.3f}, test {best['ours']:.4f} beside {best['toolbox']:.4f}", flush=True)
    return {"model": model, "rounds": rounds, "ratio": ratio if math.isfinite(ratio) else None, "test": best}


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds to the public toolbox's quality")
    parser.add_argument("--toolbox", type=Path, help="a checkout of it that runs on a CPU")
    parser.add_argument("--python", default="", help="a Python with its requirements")
    parser.add_argument("--models", nargs="*", default=list(OURS), choices=list(OURS))
    parser.add_argument("--data", default="films", choices=["films", "tiktok", "baby"])
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    if given.toolbox is None or not given.python:
        sys.exit("skipped: name a checkout of the toolbox with --toolbox, and a Python for it with --python")
    if not SHARED.is_dir():
        sys.exit(f"skipped: no shared data at {SHARED}; name another folder in LMM4REC_SHARED")
    result = f"time_to_quality_{given.data}"
    path = HERE / f"results/{result}.json"
    rows: dict[str, Any] = read_json(path)["values"]["models"] if path.exists() else {}
    for name in given.models:
        rows[name] = beside(name, given.data, given.seeds, given.toolbox, given.python)
        ratios = [row["ratio"] for row in rows.values()]
        known = all(ratio is not None for ratio in ratios)
        mean = math.exp(statistics.mean(math.log(ratio) for ratio in ratios)) if known else None
        write(result, {"threads": os.environ.get("OMP_NUM_THREADS", ""), "models": rows, "geometric_mean": mean})


if __name__ == "__main__":
    main()
