"""Active users with and without feedback: the recall of their next interactions, on films by time.

    python benchmarks/feedback_recall.py [--seeds 3] [bpr lightgcn vbpr ease cease]

Yesterday's model has learned from all interactions before a time. After it, each user's first half of new interactions
(up to `DAYS` of the log's share) is posted to the service, and recall@20 is measured on the second half, for users whom
the model knows and for new ones. Rows: "frozen" knows nothing of the first half (a new user gets the most popular
items); "hidden" only leaves these items out; the ways of fold-in update the user's vector; "retrained" has learned from
the first halves, too. Needs the shared data (LMM4REC_SHARED).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from _logs import SHARED
from _results import write
from cold_items import WORLDS
from lmm4rec.coldstart.user_fold_in import UserFoldIn, fold_in_neighbors
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.core.types import Embeddings, Neighbors, Scorer
from lmm4rec.data.interactions import Interactions
from lmm4rec.evaluation.ranking import interaction_matrix, top_k
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import make_plan
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.serving.scorer_operations import ComputedScores
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import sampler_of
from lmm4rec.training.trainer import Trainer

MODELS = {
    "bpr": {"l2_weight": 1e-2},
    "lightgcn": {"l2_weight": 1e-3},
    "vbpr": {"l2_weight": 1e-2},
    "ease": {},
    "cease": {},
}
EPOCHS = {"bpr": 25, "lightgcn": 25, "vbpr": 15}
STARTS, WINDOW = (0.5, 0.55, 0.6, 0.65, 0.70, 0.75, 0.80, 0.85, 0.90, 0.95), 0.05  # shares of the log
FEWEST, K = 2, 20  # new interactions of a user


@dataclass(frozen=True)
class Day:
    """One window: what was learned, what was posted, what came next."""

    learned: Interactions
    posted: Interactions
    following: Interactions
    known_users: np.ndarray
    known_items: np.ndarray


def day(log: Interactions, start: float, n_users: int, n_items: int) -> Day:
    assert log.timestamps is not None
    order = np.argsort(log.timestamps, kind="stable")
    begin, end = int(len(order) * start), int(len(order) * (start + WINDOW))
    learned, new = log.take(order[:begin]), log.take(order[begin:end])
    known_items = learned.item_counts(n_items) > 0
    new = new.take(known_items[new.items])
    counts, seen = new.user_counts(n_users), np.zeros(n_users, int)
    first = np.zeros(len(new), bool)
    for at, user in enumerate(new.users.tolist()):
        first[at] = seen[user] < counts[user] // 2
        seen[user] += 1
    chosen = (counts >= FEWEST)[new.users]
    return Day(
        learned, new.take(first & chosen), new.take(~first & chosen), learned.user_counts(n_users) > 0, known_items
    )


def fitted(name: str, log: Interactions, shape: tuple[int, int], features: Mapping[str, Tensor], seed: int) -> Scorer:
    users, items = (torch.from_numpy(one).long() for one in (log.users, log.items))
    graph, generator = InteractionGraph(users, items, *shape), torch.Generator().manual_seed(seed)
    recommender = RECOMMENDERS.get(name)(graph, features, generator, **MODELS[name])
    if recommender.is_trained:
        sampler = sampler_of(recommender)(graph.users, graph.items, graph.n_items, batch_size=2048)
        trainer = Trainer(epochs=EPOCHS[name], learning_rate=2e-3, seed=seed, device="cpu")
        trainer.fit(RankingObjective(recommender, Frozen(features)), sampler, None)
    with torch.no_grad():
        scorer: Scorer = recommender.embed(features)
    return scorer


def ways(scorer: Scorer, at: Day, users: np.ndarray, shape: tuple[int, int]) -> dict[str, ComputedScores]:
    """The scorers of these users (a row each), by the way in which posted interactions count."""
    before, posted = (interaction_matrix([x], n_users=shape[0], n_items=shape[1]) for x in (at.learned, at.posted))
    popular = torch.from_numpy(at.learned.item_counts(shape[1]).astype(np.float32))
    known = torch.from_numpy(at.known_users[users])
    frozen = scorer.scores(torch.from_numpy(users)).clone()
    frozen[~known] = popular

    def rows(matrix: sp.csr_array, user: int) -> np.ndarray:
        chosen: np.ndarray = matrix.indices[matrix.indptr[user] : matrix.indptr[user + 1]].astype(np.int64)
        return chosen

    every = [np.union1d(rows(before, user), rows(posted, user)) for user in users.tolist()]
    if isinstance(scorer, Neighbors):
        return {
            "frozen": ComputedScores(frozen),
            "fold-in": ComputedScores(torch.stack([fold_in_neighbors(scorer, one) for one in every])),
        }
    assert isinstance(scorer, Embeddings)
    warm_users = replace(scorer, users=scorer.users[torch.from_numpy(at.known_users)])
    fold_in, items = UserFoldIn.of(warm_users), scorer.items
    own = scorer.users[torch.from_numpy(users)]
    whole = torch.stack([fold_in(items[torch.from_numpy(one)]) for one in every])
    old = torch.stack(
        [
            fold_in(items[torch.from_numpy(rows(before, user))])
            if before.indptr[user + 1] > before.indptr[user]
            else fold_in.level
            for user in users.tolist()
        ]
    )
    share = torch.tensor(
        [[len(rows(posted, user)) / len(one)] for user, one in zip(users.tolist(), every, strict=True)]
    )
    vectors = {
        "fold-in": whole,
        "difference": torch.where(known[:, None], own + whole - old, whole),
        "mean": torch.where(known[:, None], (own + whole) / 2, whole),
        "by share": torch.where(known[:, None], own * (1 - share) + whole * share, whole),
    }
    return {"frozen": ComputedScores(frozen)} | {n: ComputedScores(x @ items.T) for n, x in vectors.items()}


def recalls(
    scorer: Scorer, at: Day, users: np.ndarray, shape: tuple[int, int], hide: Sequence[Interactions]
) -> np.ndarray:
    exclude = interaction_matrix(hide, n_users=shape[0], n_items=shape[1])[users].tolil()
    exclude[:, ~at.known_items] = True
    best = top_k(scorer, np.arange(len(users)), K, exclude=sp.csr_array(exclude)).items
    truth = interaction_matrix([at.following], n_users=shape[0], n_items=shape[1])[users].toarray()
    hits = np.take_along_axis(truth, np.maximum(best, 0), axis=1) & (best >= 0)
    shares: np.ndarray = hits.sum(1) / truth.sum(1)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("models", nargs="*", default=list(MODELS))
    given = parser.parse_args()
    if not SHARED.is_dir():
        print(f"skipped: no shared data at {SHARED}; name another folder in LMM4REC_SHARED")
        return
    plan = make_plan(load_spec({"recommender": {"name": "vbpr"}, **WORLDS["films"]}))
    dataset = DataCache().dataset(plan)
    features = {m: x.float().clone() for m, x in load_features(plan, dataset.catalog).features.items()}
    shape = (dataset.n_users, dataset.n_items)
    found: dict[str, dict[str, list[tuple[bool, float]]]] = {}
    for name in given.models:
        for seed in range(given.seeds if name in EPOCHS else 1):
            for start in STARTS:
                at = day(dataset.interactions, start, *shape)
                users = np.unique(at.following.users).astype(np.int64)
                scorer = fitted(name, at.learned, shape, features, seed)
                everything = Interactions(
                    *(np.concatenate([getattr(at.learned, c), getattr(at.posted, c)]) for c in ("users", "items"))
                )
                again = fitted(name, everything, shape, features, seed)
                both = [at.learned, at.posted]
                rows = ways(scorer, at, users, shape)
                results = {"frozen": recalls(rows["frozen"], at, users, shape, [at.learned])}
                results["hidden"] = recalls(rows.pop("frozen"), at, users, shape, both)
                results |= {way: recalls(one, at, users, shape, both) for way, one in rows.items()}
                retrained = ComputedScores(again.scores(torch.from_numpy(users)))
                results["retrained"] = recalls(retrained, at, users, shape, both)
                for way, values in results.items():
                    found.setdefault(name, {}).setdefault(way, []).extend(
                        zip(at.known_users[users].tolist(), values.tolist(), strict=True)
                    )
        for way, pairs in found[name].items():
            known, new = ([x for k, x in pairs if k is wanted] for wanted in (True, False))
            print(
                f"{name:9} {way:11} known {np.mean(known):.4f} ({len(known)})  new {np.mean(new):.4f} ({len(new)})",
                flush=True,
            )
    write(
        "feedback_recall",
        {
            "k": K,
            "starts": STARTS,
            "recall": {
                n: {
                    w: {
                        "known": float(np.mean([x for k, x in v if k])),
                        "new": float(np.mean([x for k, x in v if not k])),
                    }
                    for w, v in ways_.items()
                }
                for n, ways_ in found.items()
            },
        },
    )


if __name__ == "__main__":
    main()
