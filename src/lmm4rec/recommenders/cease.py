"""CEASE: EASE with content features as additional rows of the interaction matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.types import Features, Modality, Neighbors, PositiveFloat
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.item_regression import (
    ContentRegression,
    KeptWeights,
    MemoryLimit,
    add_product_,
    history_scorer,
    interaction_gram,
    invert_,
    regression_weights_,
    require_memory,
)
from lmm4rec.nn.projections import ContentProjection, center_of, centered
from lmm4rec.recommenders.base import Recommender

__all__ = ["CEASE"]


class CEASE(Recommender):
    """Collective EASE (Jeunen, Van Balen and Goethals 2020, doi 10.1145/3383313.3412480).

    score(u, i) = sum over the items j of user u of B[j, i], where B minimizes |X - X B|² + w Σ_m |F_mᵀ - F_mᵀ B|² +
    λ |B|² with a diagonal of 0. X is the interaction matrix, F_m [items, width] the features of modality m:

    P = (XᵀX + w Σ_m F_m F_mᵀ + λ I)⁻¹,    B[j, i] = -P[j, i] / P[i, i] for j ≠ i,    B[i, i] = 0

    λ is `l2_weight`, w is `content_weight`. Features are centered by the mean over the items that have the modality,
    and scaled to length 1; an item that lacks a modality has zeros there.

    A new item has no column in X, and zeros there would mean that no user is interested. Its column of B minimizes the
    terms of content and λ alone: b = F (FᵀF + λ/w I)⁻¹ f for its features f, with the modalities side by side.

    Differs from the authors' code: their features are tags (zeros and ones), neither centered nor scaled.
    """

    is_trained = False
    is_deterministic = True
    dense_items = True
    uses_content = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        l2_weight: Annotated[PositiveFloat, Doc("Weight of the squared norms; larger for sparser data.")] = 100.0,
        content_weight: Annotated[PositiveFloat, Doc("Weight w of the content terms.")] = 30.0,
        neighbors: KeptWeights = 0,
        memory_gb: MemoryLimit = 8.0,
    ) -> None:
        super().__init__(graph, features)
        require_memory(type(self).__name__, graph.n_items, memory_gb)
        self.l2_weight, self.content_weight, self.neighbors = l2_weight, content_weight, neighbors

    def embed(self, features: Features) -> Neighbors:
        """The users' histories and B, transposed."""
        gram = interaction_gram(self.graph)
        for x in features.values():
            add_product_(gram, centered(x, center_of(x)), self.content_weight)
        weights = regression_weights_(invert_(gram, self.l2_weight))
        self._by_content = ContentRegression.of(features, self.l2_weight / self.content_weight)
        return history_scorer(self.graph, weights, self.neighbors)

    def content_projections(self) -> Mapping[Modality, ContentProjection]:
        """(FᵀF + λ/w I)⁻¹ Fᵀ, the rows of each modality, as `embed` computed it."""
        return self._by_content.projections

    def similarity_as_new(self, items: Int[Tensor, " chosen"], features: Features) -> Float[Tensor, "chosen items"]:
        """K_i / (1 - K_ii) for each item i, K = F (FᵀF + λ/w I)⁻¹ Fᵀ: its content regressed on the other items."""
        return self._by_content.weights(items, features)
