"""Items that no model has seen, ranked by every model: the way from content to vectors that bundles take.

    python benchmarks/cold_items.py toyshop films          # all models
    python benchmarks/cold_items.py --first=0 --seeds=1 toyshop:vbpr,bpr

A fifth of the items (`split.method = "cold_items"`) is taken out of catalog and log, the model is trained on the rest
(a tenth of whose likes choose the epoch), and the items are added to its bundle by their features alone. Recall@20 on
the likes of these items is measured among the new items ("new") and among all that a user does not have yet ("all"),
where the many warm likes that a list rightly holds count as misses. "share of lists" is how much of the top 20 of all
goes to new items, which are "share of catalog" of it; "warm before" and "warm after" are recall@20 on held-out likes of
warm items without and with the new items in the catalog. Content kNN is ItemKNN with `similarity = "content"`.

Seeds 0 to 2 (items, interactions, weights) were looked at while the constants of `coldstart/fit_content_to_vectors.py`
were chosen; figures to report are those of the seeds from 3 on, which are the default.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from _logs import SHARED
from _results import HERE, write
from lmm4rec.coldstart.fit_content_to_vectors import fit_content_to_vectors
from lmm4rec.core.files import read_json
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.core.types import Embeddings, Neighbors, Scorer
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.splits import Split, split
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.evaluation.ranking import restrict, top_k
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.build.recommenders import make_graph
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import make_plan
from lmm4rec.features.source import Frozen
from lmm4rec.recommenders.base import Recommender
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle import Bundle
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer

SHARE, K = 0.2, 20
LIGHT = {"name": "paired", "image": {"name": "color"}, "text": {"name": "words"}}
WORLDS: dict[str, dict[str, Any]] = {
    "toyshop": {"data": {"name": "toyshop"}, "encoder": LIGHT},
    "films": {
        "data": {"name": "table", "path": str(SHARED / "data" / "movielens"), "k_core": 5},
        "encoder": {"name": "precomputed"},
    },
}
MODELS = (
    "popular", "itemknn", "bpr", "lightgcn", "vbpr", "freedom", "bm3", "grcn", "lattice", "mgcn", "mmgcl", "mmgcn",
    "slmrec", "lgmrec",
)  # fmt: skip
TRAIN: dict[str, Any] = {"epochs": 30, "learning_rate": 3e-3, "evaluate_every": 2, "patience": 5, "device": "cpu"}


@dataclass(frozen=True)
class World:
    """A data set without a fifth of its items, and what the likes of these are."""

    warm: Split  # without the new items
    features: dict[str, Tensor]  # of the warm items
    new_ids: list[str]
    new_features: dict[str, Tensor]
    truth: Interactions  # likes of the new items; rows of the warm catalog, then of the new items
    content_only: dict[str, Tensor]  # of all items in that order, for content kNN

    @property
    def n_warm(self) -> int:
        """How many items a model is trained on."""
        return self.warm.dataset.n_items


def world(name: str, seed: int) -> World:
    """The data set of that name with its new items chosen by the seed."""
    plan = make_plan(load_spec({"title": name, "recommender": {"name": "vbpr"}, **WORLDS[name]}))
    dataset = DataCache().dataset(plan)
    content = load_features(plan, dataset.catalog)
    features = {m: x.float().clone() for m, x in content.features.items()}
    cold = split(dataset, "cold_items", valid=0.0, test=SHARE, seed=seed)
    new = np.unique(cold.test.items)
    is_warm = np.ones(dataset.n_items, dtype=bool)
    is_warm[new] = False
    rest: Dataset = dataset.keep(np.ones(dataset.n_users, dtype=bool), is_warm)
    rows = np.concatenate([np.flatnonzero(is_warm), new])
    place = np.empty(dataset.n_items, dtype=np.int32)
    place[rows] = np.arange(len(rows), dtype=np.int32)
    truth = Interactions(cold.test.users, place[cold.test.items])
    return World(
        split(rest, "random", valid=0.1, test=0.0, seed=seed),
        {m: x[is_warm] for m, x in features.items()},
        [dataset.items[row] for row in new.tolist()],
        {m: x[new] for m, x in features.items()},
        truth,
        {m: x[rows] for m, x in features.items()},
    )


def trained(at: World, name: str, seed: int) -> tuple[Recommender, Scorer]:
    """A model of the warm items, the best of its epochs by validation, and what it ranks with."""
    graph, generator = make_graph(at.warm), torch.Generator().manual_seed(seed)
    recommender: Recommender = RECOMMENDERS.get(name)(graph, at.features, generator)
    if recommender.is_trained:
        evaluator = Evaluator(ks=[K], metrics=["recall"])

        def validate() -> Mapping[str, float]:
            with torch.inference_mode():
                return evaluator.evaluate(recommender.embed(at.features), at.warm.valid, [at.warm.train]).mean

        sampler = TripleSampler(graph.users, graph.items, graph.n_items, batch_size=1024)
        Trainer(**TRAIN, seed=seed).fit(RankingObjective(recommender, Frozen(at.features)), sampler, validate)
    with torch.no_grad():
        return recommender, recommender.embed(at.features)


def with_new_items(at: World, recommender: Recommender, scorer: Scorer) -> tuple[Scorer, Mapping[str, Any]]:
    """What ranks all items after the new ones were added to the model's bundle, and how their vectors are made."""
    content_to_vectors = fit_content_to_vectors(scorer, at.features, at.warm.train, recommender.content_projections())
    assert content_to_vectors is not None
    plain = Bundle.of(scorer, at.warm.dataset, {}, features=at.features, content_to_vectors=content_to_vectors)
    # a bundle knows people by all their likes; here by those that content kNN has too
    bundle = Bundle(
        scorer, plain.users, plain.items, list(plain.items), at.warm.train, {}, features=at.features,
        content_to_vectors=content_to_vectors,
    )  # fmt: skip
    new = [{m: x[row] for m, x in at.new_features.items()} for row in range(len(at.new_ids))]
    bundle.add_items(NewItem(id_, features=one) for id_, one in zip(at.new_ids, new, strict=True))
    return bundle.scorer, content_to_vectors.facts


def content_neighbors(at: World, neighbors: int) -> Scorer:
    """ItemKNN by content over all items, the new ones included."""
    graph = make_graph(at.warm)
    wide = type(graph)(graph.users, graph.items, graph.n_users, len(next(iter(at.content_only.values()))))
    model = RECOMMENDERS.get("itemknn")(
        wide, at.content_only, torch.Generator(), similarity="content", neighbors=neighbors
    )
    found: Scorer = model.embed(at.content_only)
    return found


def measure(at: World, scorer: Scorer, before: Scorer | None) -> dict[str, float]:
    """The figures of one model; `before` ranks the warm items alone."""
    evaluator, train = Evaluator(ks=[K], metrics=["recall"]), at.warm.train
    is_new = torch.arange(scorer.n_items) >= at.n_warm
    known = [train, at.warm.valid]
    top = top_k(scorer, np.arange(scorer.n_users), K, exclude=known).items
    found = {
        "new": evaluator.evaluate(restrict(scorer, is_new), at.truth, known).mean[f"recall@{K}"],
        "all": evaluator.evaluate(scorer, at.truth, known).mean[f"recall@{K}"],
        "share of lists": float((top >= at.n_warm).mean()),
        "share of catalog": float(is_new.float().mean()),
        "warm after": evaluator.evaluate(scorer, at.warm.valid, [train]).mean[f"recall@{K}"],
    }
    if before is not None:
        found["warm before"] = evaluator.evaluate(before, at.warm.valid, [train]).mean[f"recall@{K}"]
    return found


def rows(name: str, models: list[str], seed: int) -> Iterator[tuple[str, dict[str, float], Mapping[str, Any]]]:
    """A row for each model and baseline."""
    at = world(name, seed)
    chance = K / len(at.new_ids)
    yield "random", {"new": chance, "all": K / (at.n_warm + len(at.new_ids))}, {}
    for neighbors in (20, 50, 200):
        yield f"content kNN, {neighbors} neighbors", measure(at, content_neighbors(at, neighbors), None), {}
    for model in models:
        recommender, scorer = trained(at, model, seed)
        grown, facts = with_new_items(at, recommender, scorer)
        assert isinstance(grown, Embeddings | Neighbors)
        yield model, measure(at, grown, scorer), facts


def main(arguments: list[str]) -> None:
    """Each world with its models, over the seeds."""
    first, seeds, worlds = 3, 2, []
    for argument in arguments or list(WORLDS):
        if argument.startswith("--seeds="):
            seeds = int(argument.partition("=")[2])
        elif argument.startswith("--first="):
            first = int(argument.partition("=")[2])
        else:
            worlds.append(argument)
    for chosen in worlds or list(WORLDS):
        name, _, named = chosen.partition(":")
        gathered: dict[str, list[dict[str, float]]] = {}
        methods: dict[str, list[str]] = {}
        for seed in range(first, first + seeds):
            for label, figures, facts in rows(name, named.split(",") if named else list(MODELS), seed):
                gathered.setdefault(label, []).append(figures)
                methods.setdefault(label, []).append(str(facts.get("method", "")))
                print(f"{name} seed {seed} {label:28} new {figures['new']:.4f} all {figures['all']:.4f}", flush=True)
        table = {
            label: {key: round(statistics.mean(one[key] for one in found), 4) for key in found[0]}
            | ({"methods": methods[label]} if any(methods[label]) else {})
            for label, found in gathered.items()
        }
        _write(name, list(range(first, first + seeds)), table)


def _write(name: str, seeds: list[int], table: dict[str, dict[str, Any]]) -> None:
    """Rows of models that were measured before on the same seeds stay."""
    path = HERE / "results" / f"cold_items_{name}.json"
    before = read_json(path)["values"] if path.exists() else {}
    known = before["models"] if before.get("seeds") == seeds else {}
    write(f"cold_items_{name}", {"seeds": seeds, "k": K, "models": known | table})


if __name__ == "__main__":
    main(sys.argv[1:])
