"""CEASE: EASE with content, whose features are further rows of the interaction matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.types import Features, Modality, Neighbors, NonNegativeInt, PositiveFloat
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.item_regression import (
    add_product_,
    center_of,
    centered_rows,
    interaction_gram,
    invert_,
    neighbors_by,
    regression_weights_,
    require_memory,
)
from lmm4rec.nn.projections import ContentProjection
from lmm4rec.recommenders.base import Recommender

__all__ = ["CEASE"]


class CEASE(Recommender):
    """Collective EASE (Jeunen, Van Balen and Goethals 2020, doi 10.1145/3383313.3412480).

    score(u, i) = sum over the items j of user u of B[j, i], where B minimizes |X - X B|² + w Σ_m |F_mᵀ - F_mᵀ B|² +
    λ |B|² with a diagonal of 0. X is the interaction matrix, F_m [items, width] the features of modality m:

    P = (XᵀX + w Σ_m F_m F_mᵀ + λ I)⁻¹,    B[j, i] = -P[j, i] / P[i, i] for j ≠ i,    B[i, i] = 0

    λ is `l2_weight`, w is `content_weight`. Features are centered by the mean over the items that have the modality,
    and scaled to length 1; an item that lacks a modality has zeros there.

    A new item i with the features f has no interactions, so that its column of B is the same regression with x_i = 0:
    b = w P Σ_m F_m f_m, in closed form.

    Differs from the authors' code: their features are tags, zeros and ones as they are.
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
        content_weight: Annotated[PositiveFloat, Doc("Weight of content beside interactions.")] = 30.0,
        neighbors: Annotated[NonNegativeInt, Doc("Largest weights kept of each item, for small bundles; 0: all.")] = 0,
        memory_gb: Annotated[PositiveFloat, Doc("Memory for items × items numbers; more stops the run first.")] = 8.0,
    ) -> None:
        super().__init__(graph, features)
        require_memory(type(self).__name__, graph.n_items, memory_gb)
        self.l2_weight, self.content_weight, self.neighbors = l2_weight, content_weight, neighbors

    def embed(self, features: Features) -> Neighbors:
        """The users' histories and B, transposed."""
        gram, content = interaction_gram(self.graph), {m: centered_rows(x) for m, x in features.items()}
        for rows in content.values():
            add_product_(gram, rows, self.content_weight)
        inverse = invert_(gram, self.l2_weight)
        self._projections = {
            m: ContentProjection(
                (self.content_weight * (rows.T.to(inverse.dtype) @ inverse)).float(), center_of(features[m])
            )
            for m, rows in content.items()
        }
        self._weights = regression_weights_(inverse)
        return neighbors_by(self.graph, self._weights, self.neighbors)

    def content_projections(self) -> Mapping[Modality, ContentProjection]:
        """w P F_m by modality, as `embed` computed it."""
        return self._projections

    def similarity_as_new(self, items: Int[Tensor, " chosen"], features: Features) -> Float[Tensor, "chosen items"]:
        """b - P[:, i] b_i / P_ii for each item i: the regression of its content on the other items alone."""
        rows = torch.stack([path(features[m][items]) for m, path in self._projections.items()]).sum(0)
        at = torch.arange(len(items)), items
        rows = rows + self._weights[items] * rows[at][:, None]
        rows[at] = 0.0
        return rows
