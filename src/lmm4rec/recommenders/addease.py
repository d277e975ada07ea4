"""Add-EASE: the sum of two linear models from each item to all others, by interactions and by content."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from annotated_types import Interval
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.types import Features, Modality, Neighbors, PositiveFloat
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.item_regression import (
    ContentRegression,
    KeptWeights,
    MemoryLimit,
    blocks,
    history_scorer,
    regression_weights_,
    require_memory,
)
from lmm4rec.nn.projections import ContentProjection
from lmm4rec.nn.sparse_inverse import inverse_of_gram
from lmm4rec.recommenders.base import Recommender

__all__ = ["AddEASE"]


class AddEASE(Recommender):
    """Additive EASE (Jeunen, Van Balen and Goethals 2020, doi 10.1145/3383313.3412480).

    score(u, i) = sum over the items j of user u of B[j, i], with B = (1 - c) B_X + c B_F. B_X is that of EASE (Steck
    2019, arXiv 1905.03375) for the interaction matrix X, and B_F the same for the features F [items, width], whose
    modalities stand side by side:

    P = (XᵀX + λ I)⁻¹,      B_X[j, i] = -P[j, i] / P[i, i] for j ≠ i
    K = F (FᵀF + μ I)⁻¹ Fᵀ,    B_F[j, i] = K[j, i] / (1 - K[i, i]) for j ≠ i

    B_F is EASE with Fᵀ in the place of X, since (F Fᵀ + μ I)⁻¹ = (I - K) / μ. λ is `l2_weight`, μ `content_l2_weight`,
    c `content_share`. Features are centered by the mean over the items that have the modality, and scaled to length 1;
    an item that lacks a modality has zeros there.

    A new item with the features f has zeros as its column of B_X, and F (FᵀF + μ I)⁻¹ f as that of B_F.

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
        l2_weight: Annotated[PositiveFloat, Doc("Weight of B_X's squared norms; larger for sparser data.")] = 100.0,
        content_l2_weight: Annotated[PositiveFloat, Doc("Weight of B_F's squared norms.")] = 3.0,
        content_share: Annotated[float, Interval(gt=0, le=1), Doc("Share of B_F in the sum; 1: content alone.")] = 0.3,
        neighbors: KeptWeights = 0,
        memory_gb: MemoryLimit = 8.0,
    ) -> None:
        super().__init__(graph, features)
        require_memory(type(self).__name__, graph.n_items, memory_gb)
        self.l2_weight, self.content_l2_weight = l2_weight, content_l2_weight
        self.content_share, self.neighbors, self.memory_gb = content_share, neighbors, memory_gb

    def embed(self, features: Features) -> Neighbors:
        """The users' histories and B, transposed."""
        weights = regression_weights_(inverse_of_gram(self.graph, self.l2_weight, self.memory_gb))
        self._by_content = ContentRegression.of(features, self.content_l2_weight)
        for rows in blocks(len(weights)):
            by_content = self._by_content.weights(torch.arange(rows.start, rows.stop), features)
            weights[rows] = weights[rows] * (1 - self.content_share) + by_content * self.content_share
        return history_scorer(self.graph, weights, self.neighbors)

    def content_projections(self) -> Mapping[Modality, ContentProjection]:
        """(FᵀF + μ I)⁻¹ Fᵀ, the rows of each modality, as `embed` computed it; a fitted scale replaces the factor c."""
        return self._by_content.projections

    def similarity_as_new(self, items: Int[Tensor, " chosen"], features: Features) -> Float[Tensor, "chosen items"]:
        """K_i / (1 - K_ii) for each item i: the regression of its content on the other items alone."""
        return self._by_content.weights(items, features)
