"""iALS beside the ALS of `implicit`, with both of its solvers, on the same log in the same run.

    python benchmarks/ials.py --python PATH [--data clothing] [--dim 64]     # a Python that has implicit

Both minimize a weighted squared loss over all pairs on two threads, one after the other, implicit in a process of its
own, each at the best of six settings. The quality is recall@20 on the validation part after every second sweep;
validation takes no part in the seconds, which count up to the lower of the two best recalls. Processor seconds are
given too: on a machine with other work they are what can be compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from _logs import load
from _results import write
from lmm4rec.core.types import Embeddings
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.recommenders.ials import IALS

THREADS, SWEEPS, EVERY = 2, 12, 2
OURS = ((0.03, 0.01), (0.03, 0.02), (0.03, 0.03), (0.1, 0.01), (0.01, 0.03), (0.01, 0.01))  # α0 and λ
PEERS = ((30.0, 30.0), (30.0, 60.0), (30.0, 100.0), (10.0, 30.0), (10.0, 100.0), (100.0, 100.0))  # alpha and λ
_PEER = """
import json, sys, time
import numpy as np, scipy.sparse as sp
import implicit
from implicit.cpu.als import AlternatingLeastSquares
log, out, dim, threads, sweeps, every, alpha, l2 = sys.argv[1:]
data = np.load(log)
shape = int(data["n_users"]), int(data["n_items"])
matrix = sp.csr_matrix((np.ones(len(data["users"]), np.float32), (data["users"], data["items"])), shape=shape)
rows, factors = {}, {}
for solver in ("cg", "cholesky"):
    seconds, cpu = [], []
    model = AlternatingLeastSquares(factors=int(dim), iterations=int(sweeps), use_cg=solver == "cg", random_state=0,
                                    num_threads=int(threads), alpha=float(alpha), regularization=float(l2))
    clock = [0.0, 0.0]
    def note(sweep, took, *_):
        seconds.append(time.perf_counter() - clock[0]); cpu.append(time.process_time() - clock[1])
        if (sweep + 1) % int(every) == 0:
            factors[f"{solver}.{sweep + 1}.users"] = model.user_factors.copy()
            factors[f"{solver}.{sweep + 1}.items"] = model.item_factors.copy()
        clock[:] = time.perf_counter(), time.process_time()
    clock[:] = time.perf_counter(), time.process_time()
    model.fit(matrix, show_progress=False, callback=note)
    rows[solver] = {"seconds": seconds, "cpu_seconds": cpu}
np.savez(out, **factors)
print(json.dumps({"version": implicit.__version__, "solvers": rows}))
"""


def peer(data: str, python: str, dim: int) -> dict[str, Any]:
    """The seconds of each sweep of both solvers, and recall@20 after some of them; the best of a few settings."""
    log = load(data)
    train = log.parts[0]
    found: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        given, factors = Path(folder) / "log.npz", Path(folder) / "factors.npz"
        np.savez(given, users=train.users, items=train.items, n_users=log.n_users, n_items=log.n_items)
        env = {**os.environ, "OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": "", "OPENBLAS_NUM_THREADS": "1"}
        for alpha, l2 in PEERS:
            numbers = [str(x) for x in (dim, THREADS, SWEEPS, EVERY, alpha, l2)]
            command = [python, "-c", _PEER, str(given), str(factors), *numbers]
            answer = json.loads(subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout)
            with np.load(factors) as saved:
                for solver, row in answer["solvers"].items():
                    recalls = {
                        at: recall(data, *(torch.from_numpy(saved[f"{solver}.{at}.{side}"]) for side in SIDES))
                        for at in range(EVERY, SWEEPS + 1, EVERY)
                    }
                    row |= {"alpha": alpha, "regularization": l2, "recall@20": recalls, "version": answer["version"]}
                    if solver not in found or max(recalls.values()) > max(found[solver]["recall@20"].values()):
                        found[solver] = row
    return found


SIDES = ("users", "items")


def recall(data: str, users: torch.Tensor, items: torch.Tensor) -> float:
    """Validation recall@20 over all items, training items masked."""
    train, valid, _ = load(data).parts
    scorer = Embeddings(users, items[:, : users.shape[1]])
    return Evaluator(ks=[20], metrics=["recall"]).evaluate(scorer, valid, [train]).mean["recall@20"]


def ours(data: str, dim: int) -> dict[str, Any]:
    """The seconds of each sweep, and recall@20 after some of them; the best of a few settings."""
    rows = [_sweeps(data, dim, {"unobserved_weight": weight, "l2_weight": l2}) for weight, l2 in OURS]
    return max(rows, key=lambda row: max(row["recall@20"].values()))


def _sweeps(data: str, dim: int, options: dict[str, float]) -> dict[str, Any]:
    torch.set_num_threads(THREADS)
    model = IALS(load(data).graph(), {}, torch.Generator().manual_seed(0), dim=dim, **options)
    seconds, cpu, recalls = [], [], {}
    for sweep in range(1, SWEEPS + 1):
        wall, used = time.perf_counter(), time.process_time()
        model.sweep({}, torch.Generator())
        seconds.append(time.perf_counter() - wall)
        cpu.append(time.process_time() - used)
        if sweep % EVERY == 0:
            recalls[sweep] = recall(data, model.users.detach(), model.items.detach())
    return {**options, "seconds": seconds, "cpu_seconds": cpu, "recall@20": recalls}


def beside(own: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    """Seconds of both up to the lower of the two best recalls."""
    level = min(max(own["recall@20"].values()), max(row["recall@20"].values()))

    def until(one: dict[str, Any], clock: str) -> float:
        sweeps = next(at for at, value in one["recall@20"].items() if value >= level)
        return float(sum(one[clock][:sweeps]))

    clocks = ("seconds", "cpu_seconds")
    return {"recall@20": level} | {
        clock: {"ours": until(own, clock), "implicit": until(row, clock)} for clock in clocks
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="iALS beside implicit")
    parser.add_argument("--python", default="", help="a Python that has implicit")
    parser.add_argument("--data", default="clothing", choices=["baby", "sports", "clothing", "large"])
    parser.add_argument("--dim", type=int, default=64)
    given = parser.parse_args()
    if not given.python:
        sys.exit("skipped: name a Python that has implicit with --python")
    own, rows = ours(given.data, given.dim), peer(given.data, given.python, given.dim)
    compared = {solver: beside(own, row) for solver, row in rows.items()}
    values = {"log": load(given.data).source, "dim": given.dim, "threads": THREADS, "ours": own, "implicit": rows}
    write(f"ials_{given.data}", values | {"at_equal_quality": compared})


if __name__ == "__main__":
    main()
