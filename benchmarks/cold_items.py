"""Items that no model has seen, ranked by every model and by the field's methods for new items.

    python benchmarks/cold_items.py toyshop films          # all models
    python benchmarks/cold_items.py --first=0 --seeds=1 toyshop:vbpr,bpr
    python benchmarks/cold_items.py --no-baselines films:lattice

A fifth of the items (`split.method = "cold_items"`) is taken out of catalog and log, the model is trained on the rest
(a tenth of whose interactions choose the epoch), and the items are added to its bundle by their features alone. Recall
and NDCG on the interactions of these items are measured among the new items, and recall among all that a user does not
have yet ("all"), where the many warm items that a list rightly holds count as misses. "share of lists" is how much of
the top 20 of all goes to new items, which are "share of catalog" of it; "warm before" and "warm after" are recall@20
on held-out interactions of warm items without and with the new items in the catalog.

What a bundle ranks new items by has two parts: the model's own columns ("own") and the shared content profile
("profile"), the same for every model; "both" is what users get. Other rows rank the new items alone: chance, content
kNN (ItemKNN with `similarity = "content"`), the cold-start methods on the vectors of BPR (`_cold_methods.py`), the
profile plus the softmax tower (both standardized by user), and the new items' true popularity as headroom.

Seeds 0 to 2 (items, interactions, weights) were looked at while the constants of `coldstart/fit_content_to_vectors.py`
were chosen, and to choose among the towers; 3 and 4 were reported before. Figures to report are those of the seeds from
5 on, which are the default.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from _cold_methods import HeldOut, K, Teacher, fitted, popularity, standardized
from _logs import SHARED
from _results import HERE, write
from lmm4rec.coldstart.content_profile import CONTENT
from lmm4rec.coldstart.fit_content_to_vectors import fit_content_to_vectors
from lmm4rec.core.files import read_json
from lmm4rec.core.registry import COLD_START, RECOMMENDERS
from lmm4rec.core.types import Embeddings, Scorer
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
from lmm4rec.serving.scorer_operations import ComputedScores
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import sampler_of
from lmm4rec.training.trainer import Trainer

SHARE, HELD = 0.2, 0.1
LIGHT = {"name": "paired", "image": {"name": "color"}, "text": {"name": "words"}}
WORLDS: dict[str, dict[str, Any]] = {
    "toyshop": {"data": {"name": "toyshop"}, "encoder": LIGHT},
    "films": {
        "data": {"name": "table", "path": str(SHARED / "data" / "movielens"), "k_core": 5},
        "encoder": {"name": "precomputed"},
    },
}
MODELS = RECOMMENDERS.names()
Rows: TypeAlias = Iterator[tuple[str, dict[str, float], Mapping[str, Any]]]
TRAIN: dict[str, Any] = {"epochs": 30, "learning_rate": 3e-3, "evaluate_every": 2, "patience": 5, "device": "cpu"}


@dataclass(frozen=True)
class World:
    """A data set without a fifth of its items, and the interactions of these."""

    warm: Split  # without the new items
    features: dict[str, Tensor]  # of the warm items
    new_ids: list[str]
    new_features: dict[str, Tensor]
    truth: Interactions  # interactions with the new items; rows of the warm catalog, then of the new items
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

        sampler = sampler_of(recommender)(graph.users, graph.items, graph.n_items, batch_size=1024)
        Trainer(**TRAIN, seed=seed).fit(RankingObjective(recommender, Frozen(at.features)), sampler, validate)
    with torch.no_grad():
        return recommender, recommender.embed(at.features)


def with_new_items(at: World, recommender: Recommender, scorer: Scorer) -> tuple[Scorer, Mapping[str, Any]]:
    """What ranks all items after the new ones were added to the model's bundle, and how their vectors are made."""
    content_to_vectors = fit_content_to_vectors(
        scorer, at.features, at.warm.train, recommender.content_projections(), recommender.similarity_as_new
    )
    assert content_to_vectors is not None
    plain = Bundle.of(scorer, at.warm.dataset, {}, features=at.features, content_to_vectors=content_to_vectors)
    # a bundle knows users by all their interactions; here by those that content kNN has too
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
    recall, train = Evaluator(ks=[K], metrics=["recall"]), at.warm.train
    known = [train, at.warm.valid]
    top = top_k(scorer, np.arange(scorer.n_users), K, exclude=known).items
    found = among_new(at, scorer, "both") | {
        "all": recall.evaluate(scorer, at.truth, known).mean[f"recall@{K}"],
        "share of lists": float((top >= at.n_warm).mean()),
        "share of catalog": 1 - at.n_warm / scorer.n_items,
        "warm after": recall.evaluate(scorer, at.warm.valid, [train]).mean[f"recall@{K}"],
    }
    if isinstance(scorer, Embeddings):
        for name, vectors in contributions(scorer).items():
            found |= among_new(at, vectors, name)
    if before is not None:
        found["warm before"] = recall.evaluate(before, at.warm.valid, [train]).mean[f"recall@{K}"]
    return found


def among_new(at: World, scorer: Scorer, name: str) -> dict[str, float]:
    """Recall and NDCG among the new items, the rows of the scorer from `n_warm` on."""
    evaluator, is_new = Evaluator(ks=[K], metrics=["recall", "ndcg"]), torch.arange(scorer.n_items) >= at.n_warm
    means = evaluator.evaluate(restrict(scorer, is_new), at.truth, [at.warm.train, at.warm.valid]).mean
    return {name: means[f"recall@{K}"], f"{name} ndcg": means[f"ndcg@{K}"]}


def contributions(scorer: Embeddings) -> dict[str, Embeddings]:
    """The model's own columns, and those of the shared content profile."""
    start = scorer.parts[CONTENT].start
    return {
        "own": Embeddings(scorer.users[:, :start], scorer.items[:, :start]),
        "profile": Embeddings(scorer.users[:, start:], scorer.items[:, start:]),
    }


def alone(at: World, scores: Tensor) -> dict[str, float]:
    """The figures of scores of the new items alone."""
    warm = torch.full((len(scores), at.n_warm), -torch.inf)
    return among_new(at, ComputedScores(torch.cat([warm, scores], dim=1)), "both")


def baselines(at: World, seed: int) -> Rows:
    """Chance, headroom, content kNN, the shared profile, and the cold-start methods."""
    shape = (at.warm.dataset.n_users, len(at.new_ids))
    yield "random", alone(at, torch.rand(shape, generator=torch.Generator().manual_seed(seed))), {}
    for neighbors in (20, 50, 200):
        yield f"content kNN, {neighbors} neighbors", measure(at, content_neighbors(at, neighbors), None), {}
    grown, facts = with_new_items(at, *trained(at, "popular", seed))
    shared = contributions(_embeddings(grown))["profile"]
    profile = shared.users @ shared.items[at.n_warm :].T
    yield "shared content profile", alone(at, profile), facts
    teacher, held = bpr(at, seed)
    for name in COLD_START.names():
        scores, setting = fitted(name, teacher, held, at.new_features, seed)
        label = str(COLD_START.get(name).__name__)
        yield label, alone(at, scores), {"method": str(setting)}
        if name == "softmax_tower":
            yield "profile + tower", alone(at, standardized(profile) + standardized(scores)), {}
    yield "true popularity", alone(at, popularity(at.truth, at.n_warm, shape)), {}


def bpr(at: World, seed: int) -> tuple[Teacher, HeldOut]:
    """BPR on the warm items, and on all but a tenth of them, which choose the methods' settings."""
    dataset = at.warm.dataset
    held = np.random.default_rng(seed).random(at.n_warm) < HELD
    kept = split(dataset.keep(np.ones(dataset.n_users, dtype=bool), ~held), "random", valid=0.1, test=0.0, seed=seed)
    smaller = replace(at, warm=kept, features={m: x[~held] for m, x in at.features.items()})
    log = at.warm.train.take(held[at.warm.train.items])
    rows_of_held = np.cumsum(held) - 1
    whole, part = (
        Teacher(make_graph(one.warm), one.features, _embeddings(trained(one, "bpr", seed)[1])) for one in (at, smaller)
    )
    features = {m: x[held] for m, x in at.features.items()}
    return whole, HeldOut(part, features, Interactions(log.users, rows_of_held[log.items].astype(np.int32)))


def _embeddings(scorer: Scorer) -> Embeddings:
    assert isinstance(scorer, Embeddings)
    return scorer


def rows(name: str, models: list[str], seed: int, *, beside: bool) -> Rows:
    """A row for each model, and with `beside` for each baseline."""
    at = world(name, seed)
    if beside:
        yield from baselines(at, seed)
    for model in models:
        recommender, scorer = trained(at, model, seed)
        grown, facts = with_new_items(at, recommender, scorer)
        yield model, measure(at, grown, scorer), facts


def main(arguments: list[str]) -> None:
    """Each world with its models, over the seeds; what is measured already on a seed stays."""
    first, seeds, worlds, beside = 5, 5, [], "--no-baselines" not in arguments
    for argument in (one for one in arguments if one != "--no-baselines"):
        if argument.startswith("--seeds="):
            seeds = int(argument.partition("=")[2])
        elif argument.startswith("--first="):
            first = int(argument.partition("=")[2])
        else:
            worlds.append(argument)
    for chosen in worlds or list(WORLDS):
        name, _, named = chosen.partition(":")
        for seed in range(first, first + seeds):
            for label, figures, facts in rows(name, named.split(",") if named else MODELS, seed, beside=beside):
                print(f"{name} seed {seed} {label:28} new {figures['both']:.4f}", flush=True)
                _write(name, seed, label, {key: round(value, 4) for key, value in figures.items()}, facts)


def _write(name: str, seed: int, label: str, figures: dict[str, float], facts: Mapping[str, Any]) -> None:
    """Add a row's figures of one seed to the file."""
    path = HERE / "results" / f"cold_items_{name}.json"
    found = read_json(path)["values"] if path.exists() else {}
    found = found if "rows" in found else {"k": K, "rows": {}}
    found["rows"].setdefault(label, {})[str(seed)] = figures | {k: facts[k] for k in ("method",) if k in facts}
    with contextlib.redirect_stdout(None):
        write(f"cold_items_{name}", found)


if __name__ == "__main__":
    main(sys.argv[1:])
