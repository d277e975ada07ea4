"""The rows of benchmarks/cold_items.py that rank new items alone: baselines, headroom and the cold-start methods."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from lmm4rec.coldstart.methods.base import ColdStartMethod
from lmm4rec.core.registry import COLD_START
from lmm4rec.core.types import Embeddings, Features
from lmm4rec.data.interactions import Interactions
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.training.history import History
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer

K = 20
EPOCHS, EVALUATE_EVERY, PATIENCE = 40, 2, 4
TOWER = {"optimizer": "adamw", "weight_decay": 1.0}
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "softmax_tower": [{**TOWER, "learning_rate": rate} for rate in (1e-2, 3e-2)],
}
RATES: list[dict[str, Any]] = [{"learning_rate": rate} for rate in (1e-3, 3e-3)]


def standardized(scores: Float[Tensor, "users items"]) -> Float[Tensor, "users items"]:
    """Each user's scores less their mean, divided by their standard deviation."""
    return (scores - scores.mean(1, keepdim=True)) / scores.std(1, keepdim=True).clamp(min=1e-9)


def popularity(truth: Interactions, n_warm: int, shape: tuple[int, int]) -> Float[Tensor, "users new"]:
    """The interactions of each new item that are to be predicted: what no method can know."""
    counts = np.bincount(truth.items - n_warm, minlength=shape[1]).astype(np.float32)
    return torch.from_numpy(counts).expand(shape)


class Teacher(NamedTuple):
    """A model that was trained on the items of a graph, and their features."""

    graph: InteractionGraph
    features: Features
    vectors: Embeddings


class HeldOut(NamedTuple):
    """Items on which settings and epochs are chosen, and a teacher that was not trained on them.

    The users of a teacher that was trained on them know them too well: ALDI found half of such interactions.
    """

    teacher: Teacher
    features: Features  # of the held-out items
    log: Interactions  # rows of these features

    def recall(self, method: ColdStartMethod) -> dict[str, float]:
        """Recall among the held-out items."""
        with torch.no_grad():
            return Evaluator(ks=[K], metrics=["recall"]).evaluate(method.embed(self.features), self.log, []).mean


def fitted(
    name: str, teacher: Teacher, held: HeldOut, new: Features, seed: int
) -> tuple[Float[Tensor, "users new"], Mapping[str, Any]]:
    """The scores of the new items by a method, with the setting and epochs that did best on the held-out items."""
    tried = []
    for setting in SETTINGS.get(name, RATES):
        history = _trained(name, held.teacher, seed, setting, EPOCHS, held.recall)[1]
        tried.append((history.best, history.best_epoch, setting))
    _, epochs, setting = max(tried, key=lambda one: one[0])
    method, _ = _trained(name, teacher, seed, setting, epochs)
    with torch.no_grad():
        vectors = method.embed(new)
    return vectors.users @ vectors.items.T, {**setting, "epochs": epochs}


def _trained(
    name: str,
    teacher: Teacher,
    seed: int,
    setting: Mapping[str, Any],
    epochs: int,
    recall: Callable[[ColdStartMethod], Mapping[str, float]] | None = None,
) -> tuple[ColdStartMethod, History]:
    """A method and its history: the best of its epochs by `recall`, or the last one without."""
    graph, features, vectors = teacher
    method: ColdStartMethod = COLD_START.get(name)(graph, features, torch.Generator().manual_seed(seed), vectors)
    every = EVALUATE_EVERY if recall else epochs
    trainer = Trainer(**setting, epochs=epochs, evaluate_every=every, patience=PATIENCE, seed=seed, device="cpu")
    sampler = TripleSampler(graph.users, graph.items, graph.n_items, batch_size=8192)
    objective = RankingObjective(method, Frozen(features))
    return method, trainer.fit(objective, sampler, lambda: recall(method) if recall else {f"recall@{K}": 0.0})
