"""LightGCN: graph convolution of user and item vectors over the interaction graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph, normalize, propagate, propagate_to
from lmm4rec.nn.losses import bpr_of_vectors, l2
from lmm4rec.nn.tables import normal_table
from lmm4rec.recommenders.base import Recommender

__all__ = ["LightGCN"]


class LightGCN(Recommender):
    """Light graph convolution (He et al. 2020, arXiv 2002.02126).

    E(k+1) = D^-1/2 A D^-1/2 E(k) (eq. 7); the final vectors are the mean over layers 0..K (eq. 4 with weights
    1/(K+1)); score = e_u · e_i; loss: BPR plus `l2_weight` times half the squared norms of the batch's layer-0
    vectors (eq. 15).

    Differs from the authors' code: none in the equations; first vectors are drawn with `initial_std` 0.01 (there 0.1),
    two `layers` instead of three and ten times the `l2_weight` are the defaults.
    """

    shards_tables = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 2,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of layer-0 vectors.")] = 1e-3,
        initial_std: Annotated[
            PositiveFloat, Doc("Standard deviation of the initial vectors; a small one ranks by popularity at first.")
        ] = 0.01,
    ) -> None:
        super().__init__(graph)
        self.layers, self.l2_weight = layers, l2_weight
        self.nodes = normal_table(graph.n_users + graph.n_items, dim, generator, std=initial_std)
        self.adjacency = normalize(graph)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr` on the final vectors, and `l2` on those of layer 0."""
        nodes = (batch.users, batch.positives + self.graph.n_users, batch.negatives + self.graph.n_users)
        users, positives, negatives = propagate_to(self.adjacency, self.nodes.all(), self.layers, *nodes)
        return {
            "bpr": bpr_of_vectors(users, positives, negatives),
            "l2": self.l2_weight * l2(*self.nodes.rows(*nodes), batch=len(users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """The final vectors of users and items."""
        vectors = propagate(self.adjacency, self.nodes.all(), self.layers)
        parts = {"id": slice(0, vectors.shape[1])}
        return Embeddings(*self.graph.sides(vectors), parts=parts)
