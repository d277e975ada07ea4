"""An encoder small enough to follow by hand, over the camps of `worlds`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lmm4rec.core.types import Batch
from lmm4rec.encoding.shared_space import LARGEST_LOG_SCALE
from lmm4rec.features.item_vectors import ItemVectors
from lmm4rec.features.live import Live
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.sampler import TripleSampler
from worlds import camp_features, camps

WIDTHS = {"image": 8, "text": 11}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class TinyVectors(ItemVectors):
    """tanh(W x), with dropout; what each pass was asked for, and in which mode, is on record."""

    def __init__(self, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.inputs = camp_features(generator(3))
        self.dims, self.n_items = WIDTHS, 30
        self.maps = nn.ParameterDict({m: torch.randn(w, w, generator=generator(w)) / w for m, w in WIDTHS.items()})
        self.dropout = nn.Dropout(dropout)
        self.log = nn.Parameter(torch.zeros(()))
        self.passes: list[tuple[int, bool, bool]] = []

    def forward(self, items: Tensor) -> dict[str, Tensor]:
        self.passes.append((len(items), self.training, torch.is_grad_enabled()))
        return {m: self.dropout(torch.tanh(self.inputs[m][items] @ self.maps[m])) for m in self.dims}

    def all(self) -> dict[str, Tensor]:
        return {m: torch.tanh(self.inputs[m] @ self.maps[m]) for m in self.dims}


class Scaled(TinyVectors):
    """The same with one space for both modalities (eight numbers of it)."""

    def __init__(self) -> None:
        super().__init__()
        self.dims = {"image": 8, "text": 8}

    def forward(self, items: Tensor) -> dict[str, Tensor]:
        return {m: torch.tanh(self.inputs[m][items] @ self.maps[m])[:, :8] for m in self.dims}

    def scale(self) -> Tensor:
        return self.log.exp()

    def bound_scale(self) -> None:
        with torch.no_grad():
            self.log.clamp_(max=LARGEST_LOG_SCALE)


def start(vectors: ItemVectors) -> dict[str, Tensor]:
    with torch.no_grad():
        return vectors.eval()(torch.arange(vectors.n_items))


def live(vectors: ItemVectors, **options: Any) -> Live:
    return Live(vectors, start(vectors), **({"precision": "float32"} | options))


def sampler(graph: InteractionGraph, size: int = 64) -> TripleSampler:
    return TripleSampler(graph.users, graph.items, graph.n_items, batch_size=size, negatives=1)


def world(component: Callable[..., Recommender], vectors: ItemVectors) -> tuple[Recommender, InteractionGraph]:
    graph, _ = camps()
    return component(graph, start(vectors), generator(1)), graph


def batches(graph: InteractionGraph, size: int = 64) -> Iterator[Batch]:
    return sampler(graph, size).epoch(generator(5))


def total(losses: Any) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
