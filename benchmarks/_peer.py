"""Public implementations on the same log, run by a Python that has them: `implicit` (BPR) and Cornac (VBPR).

    PEER_PYTHON benchmarks/_peer.py LOG.npz OUT.npz     # prints one JSON object; factors go to OUT.npz

It imports nothing of lmm4rec, so that the environment needs only NumPy, SciPy and the peers.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse as sp

DIM, EPOCHS, THREADS = 64, 10, 2


def implicit_bpr(log: Any) -> tuple[float, np.ndarray, np.ndarray]:
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    shape = (int(log["n_users"]), int(log["n_items"]))
    likes = sp.csr_matrix((np.ones(len(log["users"]), np.float32), (log["users"], log["items"])), shape=shape)
    model = BayesianPersonalizedRanking(factors=DIM, iterations=EPOCHS, num_threads=THREADS, random_state=0)
    start = time.perf_counter()
    model.fit(likes, show_progress=False)
    return (time.perf_counter() - start) / EPOCHS, model.user_factors, model.item_factors


def cornac_vbpr(log: Any) -> tuple[float, np.ndarray, np.ndarray]:
    data_module, models = (importlib.import_module(f"cornac.{name}") for name in ("data", "models"))
    triples = [(user, item, 1.0) for user, item in zip(log["users"].tolist(), log["items"].tolist(), strict=True)]
    data = data_module.Dataset.build(triples, seed=0)
    rng = np.random.default_rng(0)
    content = data_module.ImageModality(features=rng.normal(size=(int(log["n_items"]), 4096)).astype(np.float32))
    content.build(id_map=data.iid_map)
    data.add_modalities(item_image=content)
    model = models.VBPR(
        k=DIM, k2=DIM, n_epochs=2, batch_size=2048, learning_rate=1e-3, seed=0, use_gpu=False, verbose=False
    )
    start = time.perf_counter()
    model.fit(data)
    return (time.perf_counter() - start) / 2, np.zeros((0, 1)), np.zeros((0, 1))


PEERS: dict[str, tuple[str, Callable[[Any], tuple[float, np.ndarray, np.ndarray]]]] = {
    "bpr": ("implicit", implicit_bpr),
    "vbpr": ("cornac", cornac_vbpr),
}


def main(log_file: str, out_file: str) -> None:
    log, rows, factors = np.load(log_file), dict[str, Any](), dict[str, np.ndarray]()
    for name, (package, run) in PEERS.items():
        try:
            seconds, users, items = run(log)
        except ImportError as error:
            rows[name] = {"package": package, "skipped": str(error)}
            continue
        version = importlib.metadata.version(package)
        rows[name] = {"package": f"{package} {version}", "epoch_seconds": seconds, "threads": THREADS}
        factors |= {f"{name}.users": users, f"{name}.items": items}
    np.savez(out_file, **factors)  # type: ignore[arg-type]
    print(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
