"""Seconds to the quality at which the public MMRec toolbox ends: each model beside its peer.

    python benchmarks/time_to_quality.py --toolbox FOLDER --python PATH [--models bpr vbpr ...] [--seeds 2] [--rounds 2]

FOLDER is a checkout of the toolbox that runs on a CPU and has the log in `data/`; PATH is a Python with its
requirements. First, trainings: the peer trains each of the settings below, which are of its own grids, with its early
stopping; the one that validates best counts, and its best validation Recall@20 is the level. Ours trains on until its
own early stopping. That tells after how many epochs each side first is at the level, on a machine of any load, and each
finished training is kept; a command that was stopped goes on, within a training of the peer too. Then, times: both
sides train for a few epochs in turn, and the seconds are those to the first validation and, for each further one, the
median. Validations count, the building of the model too. Where ours is never at the level, the ratio is missing.
`--models` and `--only` choose what to do; the toolbox's DualGNN, DRAGON and DA-MRS read graph files that its own
scripts make. Needs the shared data (LMM4REC_SHARED).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

from _logs import SHARED
from _results import HERE, save, write
from lmm4rec.core.files import read_json
from lmm4rec.core.fingerprint import fingerprint

SLOW: dict[str, Any] = {"epochs": 1000, "patience": 20, "learning_rate": 2e-3, "weight_average": 0.8}
LARGE = {**SLOW, "learning_rate": 1e-2}, 8192  # four times the batch, twice the rate and more
VALIDATIONS = 6  # of each side and round where times are taken


def ours(recommender: dict[str, Any], train: dict[str, Any], batch_size: int = 2048) -> dict[str, Any]:
    return {"recommender": recommender, "train": train, "batch_size": batch_size}


OURS: dict[str, tuple[str, dict[str, Any]]] = {  # a peer's name here, our model and its settings
    "bpr": ("bprsgd", ours({"step_size": 0.1, "l2_weight": 0.015}, {**SLOW, "evaluate_every": 2})),
    "lightgcn": ("lightgcn", ours({"l2_weight": 1e-3, "layers": 2}, *LARGE)),
    "vbpr": ("vbpr", ours({"l2_weight": 1e-2}, *LARGE)),
    "freedom": ("freedom", ours({}, *LARGE)),
    "lattice": ("lattice", ours({}, *LARGE)),
    "bm3": ("bm3", ours({}, *LARGE)),
    "slmrec": (
        "slmrec",  # its weights decay, as in the toolbox
        ours(
            {"ssl_weight": 0.05},
            {**SLOW, "learning_rate": 5e-3, "weight_decay": 1e-4, "weight_average": 0.9},
            8192,
        ),
    ),
    "mgcn": ("mgcn", ours({}, *LARGE)),
    "lgmrec": ("lgmrec", ours({}, *LARGE)),
    "grcn": ("grcn", ours({}, *LARGE)),
    "mmgcn": ("mmgcn", ours({}, *LARGE)),
    "layergcn": ("layergcn", ours({}, *LARGE)),
    "selfcf": ("selfcf", ours({}, *LARGE)),
    "smore": ("smore", ours({}, *LARGE)),
    "pgl": ("pgl", ours({}, *LARGE)),
    "mmgcf": ("mmgcf", ours({}, *LARGE)),
    "dualgnn": ("dualgnn", ours({}, *LARGE)),
    "dragon": ("dragon", ours({}, *LARGE)),
    "damrs": ("damrs", ours({}, *LARGE)),
}
PEERS: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "bpr": ("BPR", [{"reg_weight": 0.1}, {"reg_weight": 0.01}]),
    "lightgcn": ("LightGCN", [{"n_layers": 2, "reg_weight": 1e-4}]),
    "vbpr": ("VBPR", [{"reg_weight": 0.1}, {"reg_weight": 0.01}]),
    "freedom": ("FREEDOM", [{"dropout": 0.8, "reg_weight": 1e-3}, {"dropout": 0.9, "reg_weight": 1e-4}]),
    "lattice": ("LATTICE", [{"reg_weight": 1e-4, "learning_rate": 1e-3}, {"reg_weight": 1e-3, "learning_rate": 5e-4}]),
    "bm3": ("BM3", [{"n_layers": 1, "dropout": 0.3, "reg_weight": 0.1}, {"n_layers": 2, "reg_weight": 0.01}]),
    "slmrec": ("SLMRec", [{"learning_rate": 1e-3, "reg": 1e-4, "ssl_alpha": 0.05, "ssl_temp": 0.2}]),
    "mgcn": ("MGCN", [{"cl_loss": 0.01}, {"cl_loss": 0.001}]),
    "lgmrec": ("LGMRec", [{}]),
    "grcn": ("GRCN", [{"reg_weight": 1e-3, "learning_rate": 1e-3}]),
    "mmgcn": ("MMGCN", [{"reg_weight": 1e-3, "learning_rate": 1e-3}]),
    "layergcn": ("LayerGCN", [{"dropout": 0.1, "reg_weight": 1e-3}]),
    "selfcf": ("SELFCFED_LGN", [{"n_layers": 2, "dropout": 0.5, "reg_weight": 1e-2}]),
    "smore": ("SMORE", [{"n_ui_layers": 3, "image_knn_k": 10, "text_knn_k": 10, "reg_weight": 1e-4}]),
    "pgl": ("PGL", [{"dropout": 0.2, "mode": "local"}]),
    "mmgcf": ("MMGCF", [{"n_ui_layers": 2, "reg_weight": 1e-3, "dropout": 0.2}]),
    "dualgnn": ("DualGNN", [{"reg_weight": 1e-3, "learning_rate": 1e-3}]),
    "dragon": ("DRAGON", [{"reg_weight": 1e-3, "learning_rate": 1e-3}]),
    "damrs": ("DAMRS", [{}]),
}


def trained(command: list[str], folder: Path | None = None) -> dict[str, Any]:
    """The JSON object that a training prints last."""
    env = {**os.environ, "PYTHONPATH": ""} if folder else None
    done = subprocess.run(command, env=env, cwd=folder, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@dataclass(frozen=True)
class Peer:
    """The toolbox's checkout and the Python that runs it."""

    toolbox: Path
    python: str


def ours_trained(name: str, data: str, seed: int, validations: int = 0) -> dict[str, Any]:
    model, settings = OURS[name]
    script = str(HERE / "_training_curve.py")
    return trained([sys.executable, script, model, data, json.dumps(settings), str(seed), str(validations)])


def peer_trained(peer: Peer, name: str, data: str, setting: Any, seed: int, validations: int = 0) -> dict[str, Any]:
    script = str(HERE / "_toolbox_curve.py")
    what = [PEERS[name][0], data, json.dumps(setting), str(seed), str(validations)]
    if validations:
        return trained([peer.python, script, *what], peer.toolbox / "src")
    unfinished = peer.toolbox.absolute() / "unfinished" / f"{fingerprint(what)}.pt"
    found = trained([peer.python, script, *what, str(unfinished)], peer.toolbox / "src")
    unfinished.unlink(missing_ok=True)
    return found


def train(rows: dict[str, Any], name: str, data: str, seeds: int, peer: Peer) -> Iterator[None]:
    """Add the trainings of a model and its peer that are missing; yields after each one."""
    row = rows.setdefault(name, {"model": OURS[name][0], "ours": {}, "toolbox": {}})
    if any(each["settings"] != OURS[name][1] for each in row["ours"].values()):
        row["ours"] = {}
    for seed in map(str, range(seeds)):
        theirs = row["toolbox"].setdefault(seed, [])
        for setting in PEERS[name][1]:
            if all(each["settings"] != setting for each in theirs):
                theirs.append(with_values(peer_trained(peer, name, data, setting, int(seed))))
                yield
        if seed not in row["ours"]:
            row["ours"][seed] = with_values(ours_trained(name, data, int(seed)))
            yield


def with_values(training: dict[str, Any]) -> dict[str, Any]:
    """A training's validations to five digits, without the seconds, which are those of a machine of any load."""
    curve = training.pop("curve")
    kept = {key: value for key, value in training.items() if key != "users_per_second"}
    return {**kept, "validations": " ".join(f"{value:.5f}" for _, value in curve)}


def reached(training: dict[str, Any], level: float) -> int | None:
    """The number of the first validation, from 1, that is at the level, to four digits."""
    values = enumerate(map(float, training["validations"].split()), start=1)
    return next((at for at, value in values if round(value, 4) >= round(level, 4)), None)


def beside(row: dict[str, Any], name: str, data: str, rounds: int, peer: Peer) -> None:
    """Add the seconds of both sides to the level, by seed, and the median of their ratios."""
    own, best = row["ours"], {seed: max(each, key=lambda one: one["best"]) for seed, each in row["toolbox"].items()}
    times: dict[str, list[dict[str, Any]]] = {"ours": [], "toolbox": []}
    for _ in range(rounds):
        times["ours"].append(ours_trained(name, data, 0, VALIDATIONS))
        times["toolbox"].append(peer_trained(peer, name, data, best["0"]["settings"], 0, VALIDATIONS))
    row["cost"] = {side: cost(each) for side, each in times.items()}
    row["seconds"], ratios = {}, []
    for seed in own:
        level = best[seed]["best"]
        found = {"ours": reached(own[seed], level), "toolbox": reached(best[seed], level)}
        own_s, peer_s = (seconds(row["cost"][side], at) for side, at in found.items())
        row["seconds"][seed] = {"ours": own_s, "toolbox": peer_s}
        ratios.append(math.inf if own_s is None or peer_s is None else own_s / peer_s)
    middle = statistics.median(ratios)
    row["ratio"] = middle if math.isfinite(middle) else None
    row["test"] = {"ours": mean(each["test"] for each in own.values())}
    row["test"]["toolbox"] = mean(each["test"] for each in best.values())
    print(f"{name:10} ratio {middle:.3f}, test {row['test']}", flush=True)


def cost(rounds: list[dict[str, Any]]) -> dict[str, float]:
    """Medians over rounds: seconds to the first validation and for each further one, users ranked, peak memory."""
    further = [[b[0] - a[0] for a, b in pairwise(each["curve"])] for each in rounds]
    return {
        "first_validation": statistics.median(each["curve"][0][0] for each in rounds),
        "each_further": statistics.median(statistics.median(each) for each in further),
        "users_per_second": statistics.median(each["users_per_second"] for each in rounds),
        "peak_memory_mb": statistics.median(each["peak_memory_mb"] for each in rounds),
    }


def seconds(of: dict[str, float], at: int | None) -> float | None:
    return None if at is None else of["first_validation"] + (at - 1) * of["each_further"]


def main() -> None:
    parser = argparse.ArgumentParser(description="Seconds to the public toolbox's quality")
    parser.add_argument("--toolbox", type=Path, help="a checkout of it that runs on a CPU")
    parser.add_argument("--python", default="", help="a Python with its requirements")
    parser.add_argument("--models", nargs="*", default=list(OURS), choices=list(OURS))
    parser.add_argument("--data", default="films", choices=["films", "tiktok", "baby"])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=["trainings", "times"], help="do the one part and not the other")
    given = parser.parse_args()
    if given.toolbox is None or not given.python:
        sys.exit("skipped: name a checkout of the toolbox with --toolbox, and a Python for it with --python")
    if not SHARED.is_dir():
        sys.exit(f"skipped: no shared data at {SHARED}; name another folder in LMM4REC_SHARED")
    result = f"time_to_quality_{given.data}"
    path = HERE / f"results/{result}.json"
    values: dict[str, Any] = read_json(path)["values"] if path.exists() else {"models": {}}
    rows, peer = values["models"], Peer(given.toolbox, given.python)
    for name in given.models if given.only != "times" else ():
        for _ in train(rows, name, given.data, given.seeds, peer):
            save(result, values, path)
    for name in given.models if given.only != "trainings" else ():
        beside(rows[name], name, given.data, given.rounds, peer)
        ratios = [row.get("ratio") for row in rows.values()]
        values["threads"] = os.environ.get("OMP_NUM_THREADS", "")
        values["geometric_mean"] = math.exp(mean(map(math.log, ratios))) if all(ratios) else None
        write(result, values)


if __name__ == "__main__":
    main()
