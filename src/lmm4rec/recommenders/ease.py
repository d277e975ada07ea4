"""EASE: a linear model from each item to all others, in closed form."""

from __future__ import annotations

from typing import Annotated

import torch
from typing_extensions import Doc

from lmm4rec.core.types import Features, Neighbors, PositiveFloat
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.item_regression import (
    KeptWeights,
    MemoryLimit,
    history_scorer,
    regression_weights_,
    require_memory,
)
from lmm4rec.nn.sparse_inverse import inverse_of_gram
from lmm4rec.recommenders.base import Recommender

__all__ = ["EASE"]


class EASE(Recommender):
    """Embarrassingly shallow autoencoder (Steck 2019, arXiv 1905.03375).

    score(u, i) = sum over the items j of user u of B[j, i], where B minimizes |X - X B|² + λ |B|² with a diagonal of 0
    for the interaction matrix X (eq. 4 to 8):

    P = (XᵀX + λ I)⁻¹,    B[j, i] = -P[j, i] / P[i, i] for j ≠ i,    B[i, i] = 0

    λ is `l2_weight`. B is a dense matrix [items, items]: 23,000 items take 2.1 GB, and twice that while it is computed,
    where `memory_gb` allows it (`nn.sparse_inverse`). Up to 10,000 items it is computed in float64, more in float32.
    Content is not used.
    """

    is_trained = False
    dense_items = True
    is_deterministic = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        l2_weight: Annotated[PositiveFloat, Doc("Weight of the squared norms; larger for sparser data.")] = 100.0,
        neighbors: KeptWeights = 0,
        memory_gb: MemoryLimit = 8.0,
    ) -> None:
        super().__init__(graph)
        require_memory(type(self).__name__, graph.n_items, memory_gb)
        self.l2_weight, self.neighbors, self.memory_gb = l2_weight, neighbors, memory_gb

    def embed(self, features: Features) -> Neighbors:
        """The users' histories and B, transposed."""
        weights = regression_weights_(inverse_of_gram(self.graph, self.l2_weight, self.memory_gb))
        return history_scorer(self.graph, weights, self.neighbors)
