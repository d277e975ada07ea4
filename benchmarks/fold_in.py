"""People whom the model has never seen: how well a history alone ranks, beside the vectors that were trained.

    python benchmarks/fold_in.py toyshop films
    python benchmarks/fold_in.py --seeds=1 toyshop:vbpr

Each model is trained as in `cold_items.py`, on the items that stay. Every user is then taken in as if new, from their
training items alone, and recall@20 on their held-out tenth is compared with that of the user's own vector. "mean" takes
the mean of the items' vectors, "least squares" is `coldstart.user_fold_in.UserFoldIn`. A trained vector has been fitted
to the same items, so it is no upper bound.
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import replace

import numpy as np
import torch

from _cold_methods import K
from _results import write
from cold_items import WORLDS, World, trained, world
from lmm4rec.coldstart.user_fold_in import UserFoldIn, fold_in_neighbors
from lmm4rec.core.types import Embeddings, Neighbors, Scorer
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.serving.scorer_operations import ComputedScores

MODELS = ("popular", "itemknn", "bpr", "lightgcn", "vbpr")


def histories(at: World) -> list[np.ndarray]:
    """Each user's training items."""
    train = at.warm.train
    order = np.argsort(train.users, kind="stable")
    ends = np.cumsum(train.user_counts(at.warm.dataset.n_users))
    return [np.unique(rows).astype(np.int64) for rows in np.split(train.items[order], ends[:-1])]


def taken_in(at: World, scorer: Scorer) -> dict[str, Scorer]:
    """The ways to rank for a person by history."""
    if isinstance(scorer, Neighbors):
        rows = [fold_in_neighbors(scorer, liked) for liked in histories(at)]
        return {"as it was trained": ComputedScores(torch.stack(rows))}
    assert isinstance(scorer, Embeddings)
    fold_in, items = UserFoldIn.of(scorer), scorer.items
    liked = [items[torch.from_numpy(rows)] for rows in histories(at)]
    found = torch.stack([fold_in(rows) if len(rows) else fold_in.level for rows in liked])
    mean = torch.stack([rows.mean(0) if len(rows) else fold_in.level for rows in liked])
    return {"mean": replace(scorer, users=mean), "least squares": replace(scorer, users=found)}


def main(arguments: list[str]) -> None:
    """Each world with its models, over the seeds."""
    seeds = next((int(one.partition("=")[2]) for one in arguments if one.startswith("--seeds=")), 3)
    worlds = [one for one in arguments if not one.startswith("--")] or list(WORLDS)
    evaluator = Evaluator(ks=[K], metrics=["recall"])
    for chosen in worlds:
        name, _, named = chosen.partition(":")
        gathered: dict[str, dict[str, list[float]]] = {}
        for seed in range(seeds):
            at = world(name, seed)
            for model in named.split(",") if named else MODELS:
                scorer = trained(at, model, seed)[1]
                scorer = scorer.detach() if isinstance(scorer, Embeddings) else scorer
                for way, one in {"own vector": scorer, **taken_in(at, scorer)}.items():
                    recall = evaluator.evaluate(one, at.warm.valid, [at.warm.train]).mean[f"recall@{K}"]
                    gathered.setdefault(model, {}).setdefault(way, []).append(recall)
                    print(f"{name} seed {seed} {model:10} {way:18} {recall:.4f}", flush=True)
        means = {
            model: {way: round(statistics.mean(x), 4) for way, x in ways.items()} for model, ways in gathered.items()
        }
        write(f"fold_in_{name}", {"seeds": seeds, "k": K, "recall": means})


if __name__ == "__main__":
    main(sys.argv[1:])
