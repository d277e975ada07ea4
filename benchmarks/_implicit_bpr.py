"""BPR of the library implicit (C++), run by a Python that has it.

PEER_PYTHON benchmarks/_implicit_bpr.py LOG.npz OUT.npz EPOCHS THREADS L2     # prints the seconds of an epoch

It imports nothing of lmm4rec. An epoch of it draws as many pairs as there are interactions.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import numpy as np
import scipy.sparse as sp


def main(log_file: str, out_file: str, epochs: int, threads: int, l2_weight: float) -> None:
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    log = np.load(log_file)
    shape = (int(log["n_users"]), int(log["n_items"]))
    positives = sp.csr_matrix((np.ones(len(log["users"]), np.float32), (log["users"], log["items"])), shape=shape)
    settings: dict[str, Any] = {"factors": 64, "learning_rate": 0.05, "regularization": l2_weight, "random_state": 0}
    model = BayesianPersonalizedRanking(iterations=epochs, num_threads=threads, **settings)
    start = time.perf_counter()
    model.fit(positives, show_progress=False)
    print((time.perf_counter() - start) / epochs)
    np.savez(out_file, users=model.user_factors, items=model.item_factors)


if __name__ == "__main__":
    given, factors, passes, cores, weight = sys.argv[1:]
    main(given, factors, int(passes), int(cores), float(weight))
