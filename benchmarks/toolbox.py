"""Our models beside those of the public MMRec toolbox on the same log, each and its peer in turn in one run.

    python benchmarks/toolbox.py --toolbox FOLDER --python PATH [--models dragon smore ...] [--batches 20] [--rounds 2]

FOLDER is a checkout of the toolbox that runs on a CPU and has `src/bench_one.py`, which prints the median milliseconds
of a batch and the seconds of one validation; PATH is a Python with its requirements. Baby's interactions, seeded normal
features of 4,096 and 384 numbers, dim 64, batch 2,048, two threads, the settings of both sides' files; ours and theirs
alternate, and medians over the rounds are compared. Models that are not asked for keep their rows.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from _results import HERE, write
from lmm4rec.core.files import read_json

THREADS = 2
NAMES = {
    "bpr": "BPR", "lightgcn": "LightGCN", "vbpr": "VBPR", "lattice": "LATTICE", "bm3": "BM3", "slmrec": "SLMRec",
    "mgcn": "MGCN", "freedom": "FREEDOM", "mmgcn": "MMGCN", "grcn": "GRCN", "lgmrec": "LGMRec", "layergcn": "LayerGCN",
    "selfcf": "SELFCFED_LGN", "dualgnn": "DualGNN", "dragon": "DRAGON", "smore": "SMORE", "mmgcf": "MMGCF",
    "pgl": "PGL", "damrs": "DAMRS", "mvgae": "MVGAE",
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {  # the first values of the toolbox's grids where ours differ
    "lightgcn": {"layers": 1},
    "selfcf": {"layers": 1, "dropout": 0.1},
    "mmgcf": {"layers": 1},
}
PEER_SETTINGS = {"lightgcn": ["n_layers=1"]}
_PRINTED = re.compile(r"median/batch ([\d.]+)ms .* eval ([\d.]+)s")


def ours(name: str, batches: int) -> dict[str, float]:
    """The median milliseconds of our batch, and the seconds of a validation."""
    settings = json.dumps(SETTINGS.get(name, {}))
    command = [sys.executable, str(HERE / "_step.py"), name, "baby", str(batches), settings, "2048"]
    row = json.loads(_output(command, {}).splitlines()[-1])
    return {"ms": row["milliseconds_a_batch"], "users_per_second": row["evaluated_users_per_second"]}


def theirs(name: str, batches: int, toolbox: Path, python: str) -> dict[str, float]:
    """The same of the toolbox."""
    command = [python, "bench_one.py", NAMES[name], "baby", str(batches), *PEER_SETTINGS.get(name, [])]
    printed = _PRINTED.search(_output(command, {"THREADS": str(THREADS), "PYTHONPATH": ""}, toolbox / "src"))
    if printed is None:
        sys.exit(f"{' '.join(command)} printed no time of a batch")
    return {"ms": float(printed[1]), "validation_seconds": float(printed[2])}


def _output(command: list[str], more: dict[str, str], folder: Path | None = None) -> str:
    env = {**os.environ, "OMP_NUM_THREADS": str(THREADS), **more}
    return subprocess.run(command, env=env, cwd=folder, stdout=subprocess.PIPE, text=True, check=True).stdout


def beside(name: str, rounds: int, batches: int, toolbox: Path, python: str) -> dict[str, Any]:
    """Medians of both sides over the rounds, and their ratio."""
    pairs = [(ours(name, batches), theirs(name, batches, toolbox, python)) for _ in range(rounds)]
    row: dict[str, Any] = {"rounds": [{"ours": own, "toolbox": peer} for own, peer in pairs]}
    row |= {side: statistics.median(pair[at]["ms"] for pair in pairs) for at, side in enumerate(("ours", "toolbox"))}
    row["ratio"] = row["ours"] / row["toolbox"]
    print(f"{name:10} {row['ours']:8.1f} {row['toolbox']:8.1f} ms a batch, ratio {row['ratio']:.2f}", flush=True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description="Milliseconds a batch beside the public toolbox")
    parser.add_argument("--toolbox", type=Path, help="a checkout of it that runs on a CPU")
    parser.add_argument("--python", default="", help="a Python with its requirements")
    parser.add_argument("--models", nargs="*", default=list(NAMES), choices=list(NAMES))
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    given = parser.parse_args()
    if given.toolbox is None or not given.python:
        sys.exit("skipped: name a checkout of the toolbox with --toolbox, and a Python for it with --python")
    path = HERE / "results/toolbox_baby.json"
    rows: dict[str, Any] = read_json(path)["values"]["models"] if path.exists() else {}
    for name in given.models:
        rows[name] = beside(name, given.rounds, given.batches, given.toolbox, given.python)
        mean = math.exp(statistics.mean(math.log(row["ratio"]) for row in rows.values()))
        write("toolbox_baby", {"threads": THREADS, "models": rows, "geometric_mean": mean})


if __name__ == "__main__":
    main()
