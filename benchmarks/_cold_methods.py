"""The rows of benchmarks/cold_items.py that rank new items alone: baselines, headroom and the cold-start methods."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lmm4rec.core.registry import COLD_START
from lmm4rec.core.types import Embeddings, Features
from lmm4rec.data.interactions import Interactions
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.evaluation.ranking import restrict
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer

K = 20
HELD = 0.1  # of the items, on which a method's learning rate and epoch are chosen
OPTIONS: dict[str, Any] = {"epochs": 24, "evaluate_every": 3, "patience": 2, "device": "cpu"}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "softmax_tower": [
        {"optimizer": "adamw", "weight_decay": decay, "learning_rate": rate} for decay, rate in ((1, 3e-3), (1, 1e-2))
    ]
}
RATES = ({"learning_rate": 1e-3}, {"learning_rate": 3e-3})


def standardized(scores: Float[Tensor, "users items"]) -> Float[Tensor, "users items"]:
    """Each user's scores less their mean, divided by their standard deviation."""
    return (scores - scores.mean(1, keepdim=True)) / scores.std(1, keepdim=True).clamp(min=1e-9)


def popularity(truth: Interactions, n_warm: int, shape: tuple[int, int]) -> Float[Tensor, "users new"]:
    """The interactions of each new item that are to be predicted: what no method can know."""
    counts = np.bincount(truth.items - n_warm, minlength=shape[1]).astype(np.float32)
    return torch.from_numpy(counts).expand(shape)


def fitted(
    name: str, graph: InteractionGraph, features: Features, new: Features, trained: Embeddings, seed: int
) -> tuple[Float[Tensor, "users new"], Mapping[str, Any]]:
    """The scores of the new items by a method, and the setting that did best on a tenth of the graph's items."""
    held = np.random.default_rng(seed).random(graph.n_items) < HELD
    edges = torch.from_numpy(~held)[graph.items].nonzero()[:, 0]
    rest = graph.only(edges)
    entries = (column.numpy().astype(np.int32) for column in (graph.users, graph.items))
    log = Interactions(*entries).take(held[graph.items.numpy()])
    evaluator, is_held = Evaluator(ks=[K], metrics=["recall"]), torch.from_numpy(held)
    best: tuple[float, Tensor, Mapping[str, Any]] | None = None
    for setting in SETTINGS.get(name, RATES):
        method = COLD_START.get(name)(rest, features, torch.Generator().manual_seed(seed), trained)

        def validate(method: Any = method) -> Mapping[str, float]:
            with torch.no_grad():
                scorer: Embeddings = method.embed(features)
                return evaluator.evaluate(restrict(scorer, is_held), log, []).mean

        sampler = TripleSampler(rest.users, rest.items, rest.n_items, batch_size=8192)
        Trainer(**OPTIONS, **setting, seed=seed).fit(RankingObjective(method, Frozen(features)), sampler, validate)
        reached = validate()[f"recall@{K}"]
        if best is None or reached > best[0]:
            with torch.no_grad():
                vectors = method.embed(new)
            best = reached, vectors.users @ vectors.items.T, setting
    assert best is not None
    return best[1], best[2]
