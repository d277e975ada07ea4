"""Hard negatives on films by time: what a share of low-rated films among the negatives does to rankings.

    python benchmarks/hard_negatives.py [--seeds 6] [--shares 0 0.05 0.1 0.2 0.3 0.5] [bpr lightgcn ...]

Ratings from 4 on are positive, lower ones are negative signals, of which those before a user's held-out films train.
Beside recall and NDCG over all films stands the AUC of a user's test films over the films that the user rated low
later: what hard negatives are for. Needs the shared data (LMM4REC_SHARED).
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from _logs import SHARED
from _results import HERE, write
from lmm4rec.core.files import read_json
from lmm4rec.core.types import Scorer
from lmm4rec.data.splits import Split
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.run import run

MODELS: dict[str, dict[str, Any]] = {"bpr": {"l2_weight": 1e-2}, "lightgcn": {"l2_weight": 1e-3}}
TRAIN = {"epochs": 200, "evaluate_every": 2, "patience": 10, "learning_rate": 2e-3, "batch_size": 2048}
METRICS = ("recall@20", "ndcg@20")


def conf(name: str, share: float, seed: int) -> dict[str, Any]:
    return {
        "data": {"name": "table", "path": str(SHARED / "data/movielens"), "rating_at_least": 4.0, "k_core": 5},
        "split": {"method": "user_time"},
        "recommender": {"name": name, **MODELS[name]},
        "train": {**TRAIN, "seed": seed, "hard_negatives": share},
    }


def auc_over_disliked(scorer: Scorer, split: Split) -> float:
    """The share of pairs of a test film and a later low-rated film of a user with the right order; mean over users."""
    signals = split.dataset.negatives.without(split.train, split.dataset.n_items)
    trained = split.negatives.users.astype(np.int64) * split.dataset.n_items + split.negatives.items
    later = ~np.isin(signals.users.astype(np.int64) * split.dataset.n_items + signals.items, trained)
    shares = []
    for user in np.intersect1d(split.test.users, signals.users[later]).tolist():
        scores = scorer.scores(torch.tensor([user]))[0].numpy()
        liked = scores[split.test.items[split.test.users == user]]
        disliked = scores[signals.items[later & (signals.users == user)]]
        order = np.sign(liked[:, None] - disliked[None])
        shares.append(float((order + 1).mean() / 2))
    return statistics.fmean(shares)


def measure(name: str, share: float, seed: int, data: DataCache) -> dict[str, float]:
    with TemporaryDirectory() as place:
        result = run(conf(name, share, seed), out=Path(place) / "run", data=data)
        found = {metric: result.metrics["test"][metric] for metric in METRICS}
        found["auc over disliked"] = auc_over_disliked(result.bundle().scorer, data.split(result.plan))
        return found | {"epoch": float(result.measured.chosen.epoch)}


def _measured() -> dict[str, Any]:
    """The rows of earlier calls under the same settings, which stay where they are not measured again."""
    file = HERE / "results" / "hard_negatives.json"
    values = read_json(file)["values"] if file.exists() else {}
    return dict(values["rows"]) if values.get("train") == TRAIN else {}


def main() -> None:
    parser = argparse.ArgumentParser(description="Hard negatives on films by time")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--shares", type=float, nargs="*", default=[0.0, 0.05, 0.1, 0.2, 0.3, 0.5])
    parser.add_argument("models", nargs="*", default=["bpr"])
    given = parser.parse_args()
    if not SHARED.is_dir():
        print(f"skipped: no shared data at {SHARED}; name another folder in LMM4REC_SHARED")
        return
    data, rows = DataCache(), _measured()
    for name in given.models:
        for share in given.shares:
            seeds = [measure(name, share, seed, data) for seed in range(given.seeds)]
            summary = {
                metric: {"mean": statistics.fmean(one[metric] for one in seeds),
                         "sd": statistics.stdev([one[metric] for one in seeds]) if len(seeds) > 1 else None}
                for metric in seeds[0]
            }  # fmt: skip
            rows[f"{name}, {share:g}"] = {"summary": summary, "seeds": seeds}
            write("hard_negatives", {"train": TRAIN, "rows": rows})


if __name__ == "__main__":
    main()
