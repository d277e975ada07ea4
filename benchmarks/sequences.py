"""Our SASRec beside RecTools' on the same sequences, loss and number of steps: recall, NDCG, and an epoch's seconds.

    python benchmarks/sequences.py --python PATH --data FOLDER     # a Python with rectools[torch]; a table of films

Leave-last-out: each user's last item is the test, ranked among all items but those of the user's history. Nothing is
chosen: both train the same number of epochs with the same settings, from three seeds each. RecTools trains on the
latest `length` targets of a user alone, so the log is cut to these for both. Seconds are those of the processor, of one
thread, one side after the other. Losses that were measured before with the same log, settings and epochs stay.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from _results import HERE, write
from lmm4rec.core.files import read_json
from lmm4rec.core.sequences import PAD
from lmm4rec.data.filters import prepare
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.sources import table
from lmm4rec.evaluation.ranking import interaction_matrix, top_k
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.sasrec import SASRec
from lmm4rec.training.callbacks import Callback
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sequence_sampler import SequenceSampler
from lmm4rec.training.trainer import Trainer

K = 20
SETTINGS = {"dim": 64, "layers": 2, "length": 50, "dropout": 0.2, "learning_rate": 1e-3, "batch_size": 64}
LOSSES: dict[str, dict[str, Any]] = {  # ours, theirs, negatives, calibration
    "bce": {"theirs": "BCE", "negatives": 1, "calibration": 0.0},
    "gbce": {"theirs": "gBCE", "negatives": 16, "calibration": 0.75},
    "softmax": {"theirs": "sampled_softmax", "negatives": 16, "calibration": 0.0},
}


class Cut:
    """The log without each user's last item, cut to the latest items; only items that are left are ranked."""

    def __init__(self, path: Path) -> None:
        log = prepare(table.load(path=str(path)), k_core=5).interactions.by_time()
        order = np.argsort(log.users, kind="stable")
        users, items = log.users[order], log.items[order]
        from_end = np.concatenate([np.arange(count)[::-1] for count in np.unique(users, return_counts=True)[1]])
        trained = (from_end >= 1) & (from_end <= int(SETTINGS["length"]) + 1)
        known = np.unique(items[trained])
        row = np.full(int(items.max()) + 1, -1)
        row[known] = np.arange(len(known))
        self.users, self.items = users[trained].astype(np.int32), row[items[trained]].astype(np.int32)
        tested = (from_end == 0) & (row[items] >= 0)
        self.test_users, self.test_items = users[tested], row[items[tested]]
        self.n_users, self.n_items = int(users.max()) + 1, len(known)

    def quality(self, top: np.ndarray) -> dict[str, float]:
        """Recall and NDCG at 20 of the users' lists; each user has one relevant item."""
        hits = top[self.test_users] == self.test_items[:, None]
        gains = hits / np.log2(np.arange(hits.shape[1]) + 2)
        return {f"recall@{K}": float(hits.any(1).mean()), f"ndcg@{K}": float(gains.sum(1).mean())}


def ours(log: Cut, loss: Any, epochs: int, seed: int) -> dict[str, float]:
    """Quality after the training, and the processor seconds of an epoch."""
    torch.set_num_threads(1)
    users, items = torch.from_numpy(log.users).long(), torch.from_numpy(log.items).long()
    graph = InteractionGraph(users, items, log.n_users, log.n_items, in_order=True)
    options, generator = LOSSES[loss], torch.Generator().manual_seed(seed)
    length = int(SETTINGS["length"])
    model = SASRec(
        graph, {}, generator, dim=int(SETTINGS["dim"]), layers=int(SETTINGS["layers"]), length=length,
        dropout=SETTINGS["dropout"], loss=loss, calibration=options["calibration"],
    )  # fmt: skip
    sampler = SequenceSampler(
        users, items, log.n_items, length, batch_size=int(SETTINGS["batch_size"]), negatives=options["negatives"]
    )
    assert all((batch.sequences != PAD).sum(1).max() <= length + 1 for batch in sampler.epoch(generator))
    timer = _Timer()
    trainer = Trainer(epochs=epochs, learning_rate=SETTINGS["learning_rate"], seed=seed, device="cpu")
    trainer.fit(RankingObjective(model, Frozen({})), sampler, None, callbacks=[timer])
    with torch.inference_mode():
        scorer = model.embed({})
    hidden = interaction_matrix([Interactions(log.users, log.items)], n_users=log.n_users, n_items=log.n_items)
    top = top_k(scorer, np.arange(log.n_users), K, exclude=hidden).items
    return {"seed": seed, "epoch_cpu_seconds": statistics.median(timer.seconds), **log.quality(top)}


class _Timer(Callback):
    """The processor seconds of each epoch."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last = 0.0

    def on_train_begin(self, history: Any) -> None:
        self._last = time.process_time()

    def on_epoch_end(self, row: Any) -> None:
        now = time.process_time()
        self.seconds.append(now - self._last)
        self._last = now


def theirs(log: Cut, loss: str, epochs: int, seeds: list[int], python: str) -> dict[str, Any]:
    """The same of RecTools, from each seed."""
    options = LOSSES[loss]
    given = {**SETTINGS, "loss": options["theirs"], "negatives": options["negatives"], "epochs": epochs, "seeds": seeds}
    given |= {"calibration": options["calibration"], "k": K}
    with TemporaryDirectory() as folder:
        file, lists = Path(folder) / "log.npz", Path(folder) / "lists.npz"
        np.savez(file, users=log.users, items=log.items, n_users=log.n_users, options=json.dumps(given))
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        command = [python, str(HERE / "_sequence_peer.py"), str(file), str(lists)]
        answer = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
        rows: dict[str, Any] = json.loads(answer.stdout.splitlines()[-1])
        with np.load(lists) as found:
            for row in rows["seeds"]:
                row.update(log.quality(found[str(row["seed"])]))
    return rows


def beside(ours: list[dict[str, float]], theirs: list[dict[str, float]]) -> dict[str, Any]:
    """Means and spreads over the seeds, the difference, and the ratio of an epoch's seconds."""
    values: dict[str, Any] = {}
    for name in (f"recall@{K}", f"ndcg@{K}"):
        sides = [[row[name] for row in rows] for rows in (ours, theirs)]
        means, spreads = [statistics.mean(side) for side in sides], [statistics.stdev(side) for side in sides]
        values[name] = {"ours": means[0], "theirs": means[1], "spread_ours": spreads[0], "spread_theirs": spreads[1]}
        values[name]["difference"] = means[0] - means[1]
    seconds = [statistics.median(row["epoch_cpu_seconds"] for row in rows) for rows in (ours, theirs)]
    return values | {"epoch_cpu_seconds": {"ours": seconds[0], "theirs": seconds[1], "ratio": seconds[0] / seconds[1]}}


def main() -> None:
    parser = argparse.ArgumentParser(description="Our SASRec beside RecTools'")
    parser.add_argument("--python", default="", help="a Python that has rectools[torch]")
    parser.add_argument("--data", type=Path, required=True, help="a folder as the source `table` reads it, with times")
    parser.add_argument("--losses", nargs="+", default=list(LOSSES), choices=list(LOSSES))
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    if not given.python:
        print("skipped: name a Python that has rectools[torch] with --python")
        return
    log, seeds = Cut(given.data), list(range(given.seeds))
    sizes = {"users": log.n_users, "items": log.n_items, "interactions": len(log.users), "test": len(log.test_users)}
    measured = {"log": sizes, "settings": SETTINGS, "epochs": given.epochs}
    before = HERE / "results" / "sequences.json"
    values = read_json(before)["values"] if before.exists() else {}
    rows = values["losses"] if measured.items() <= values.items() else {}
    for loss in given.losses:
        peer = theirs(log, loss, given.epochs, seeds, given.python)
        own = [ours(log, loss, given.epochs, seed) for seed in seeds]
        rows[loss] = {"package": peer["package"], "ours": own, "theirs": peer["seeds"], **beside(own, peer["seeds"])}
        write("sequences", {**measured, "losses": rows})


if __name__ == "__main__":
    main()
