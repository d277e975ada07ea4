"""Public implementations on the same log, run by a Python that has them: implicit, LensKit and Cornac.

    PEER_PYTHON benchmarks/_peer.py LOG.npz OUT.npz     # prints one JSON object; factors go to OUT.npz

Dim 64, batch 2,048 where there are batches, each library's own defaults otherwise. It imports nothing of lmm4rec, so
that the environment needs only NumPy, SciPy, pandas and the peers.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import scipy.sparse as sp

DIM, BATCH, THREADS = 64, 2048, 2

Fitted = tuple[float, np.ndarray, np.ndarray]  # seconds an epoch, user factors, item factors


def implicit_bpr(log: Any, epochs: int) -> Fitted:
    from implicit.cpu.bpr import BayesianPersonalizedRanking

    shape = (int(log["n_users"]), int(log["n_items"]))
    likes = sp.csr_matrix((np.ones(len(log["users"]), np.float32), (log["users"], log["items"])), shape=shape)
    model = BayesianPersonalizedRanking(factors=DIM, iterations=epochs, num_threads=THREADS, random_state=0)
    start = time.perf_counter()
    model.fit(likes, show_progress=False)
    return (time.perf_counter() - start) / epochs, model.user_factors, model.item_factors


def lenskit(log: Any, epochs: int, *, preset: str, **settings: Any) -> Fitted:
    data, flexmf, training, torch, pandas = map(
        importlib.import_module, ("lenskit.data", "lenskit.flexmf", "lenskit.training", "torch", "pandas")
    )
    torch.set_num_threads(THREADS)
    frame = pandas.DataFrame({"user_id": log["users"], "item_id": log["items"]})
    rows = {"users": np.arange(int(log["n_users"])), "items": np.arange(int(log["n_items"]))}
    dataset = data.from_interactions_df(frame, **rows)
    scorer = flexmf.FlexMFImplicitScorer(preset=preset, embedding_size=DIM, batch_size=BATCH, **settings)
    trainer = scorer.create_trainer(dataset, training.TrainingOptions(device="cpu", rng=0))
    seconds = []
    for _ in range(epochs):
        start = time.perf_counter()
        trainer.train_epoch()
        seconds.append(time.perf_counter() - start)  # the first one also compiles
    model = scorer.model
    with torch.no_grad():
        if settings:
            model.update_convolution(trainer.data.ui_matrix, trainer.data.iu_matrix)
            return statistics.median(seconds), model.u_layers.mean(0).numpy(), model.i_layers.mean(0).numpy()
        return statistics.median(seconds), model.u_embed.weight.numpy(), model.i_embed.weight.numpy()


def cornac_vbpr(log: Any, epochs: int) -> Fitted:
    data_module, models = (importlib.import_module(f"cornac.{name}") for name in ("data", "models"))
    triples = [(user, item, 1.0) for user, item in zip(log["users"].tolist(), log["items"].tolist(), strict=True)]
    data = data_module.Dataset.build(triples, seed=0)
    content = data_module.ImageModality(features=log["image"], ids=list(range(int(log["n_items"]))), normalized=False)
    content.build(id_map=data.iid_map)
    data.add_modalities(item_image=content)
    model = models.VBPR(k=DIM, k2=DIM, n_epochs=epochs, batch_size=BATCH, seed=0, use_gpu=False, verbose=False)
    start = time.perf_counter()
    model.fit(data)
    seconds = (time.perf_counter() - start) / epochs
    users = np.zeros((int(log["n_users"]), 2 * DIM + 1), np.float32)
    items = np.zeros((int(log["n_items"]), 2 * DIM + 1), np.float32)
    ones, bias = np.ones((data.num_users, 1)), (model.beta_item + model.visual_bias)[: data.num_items, None]
    users[list(data.uid_map)] = np.hstack([model.gamma_user, model.theta_user, ones])[list(data.uid_map.values())]
    known = list(data.iid_map.values())
    items[list(data.iid_map)] = np.hstack([model.gamma_item[known], model.theta_item[known], bias[known]])
    return seconds, users, items


# our model beside it, the package, epochs, and how it is run
PEERS: dict[str, tuple[str, str, int, Callable[[Any, int], Fitted]]] = {
    "implicit BPR": ("bpr", "implicit", 100, implicit_bpr),
    "implicit BPR, ten times as long": ("bpr", "implicit", 1000, implicit_bpr),
    "LensKit BPR": ("bpr", "lenskit", 10, partial(lenskit, preset="bpr")),
    "LensKit LightGCN": ("lightgcn", "lenskit", 10, partial(lenskit, preset="lightgcn", convolution_layers=1)),
    "Cornac VBPR": ("vbpr", "cornac", 10, cornac_vbpr),
}


def main(log_file: str, out_file: str) -> None:
    log, rows, factors = np.load(log_file), dict[str, Any](), dict[str, np.ndarray]()
    for name, (ours, package, epochs, run) in PEERS.items():
        rows[name] = {"ours": ours, "package": package, "threads": THREADS, "epochs": epochs}
        try:
            seconds, users, items = run(log, epochs)
        except ImportError as error:
            rows[name]["skipped"] = str(error)
            continue
        version = importlib.metadata.version(package)
        rows[name] |= {"package": f"{package} {version}", "epoch_seconds": seconds}
        factors |= {f"{name}.users": users.astype(np.float32), f"{name}.items": items.astype(np.float32)}
    np.savez(out_file, **factors)  # type: ignore[arg-type]
    print(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
