"""LayerGCN: graph convolution whose layers are scaled by their similarity to the vectors they started from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, NonNegativeFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph, normalize, prune_edges
from lmm4rec.nn.layer_refinement import layer_refined, layer_refined_at
from lmm4rec.nn.losses import bpr_of_vectors, l2
from lmm4rec.nn.tables import node_table
from lmm4rec.recommenders.base import Recommender

__all__ = ["LayerGCN"]


class LayerGCN(Recommender):
    """Layer-refined graph convolutional network (Zhou et al., ICDE 2023, arXiv 2207.11088).

    With x(0) the trained vectors, a layer is x(l) = cos(A x(l-1), x(0)) · A x(l-1), a cosine for each node, where A =
    D^-1/2 (adjacency) D^-1/2 over the interaction graph; the final vectors are x(1) + ... + x(`layers`), without x(0).
    Score: user · item. Each epoch trains on floor(edges · (1 - `dropout`)) edges, sampled without replacement by
    1 / sqrt(d_u · d_i) and normalized anew; ranking uses all. Loss: BPR plus `l2_weight` times half the squared norms
    of the batch's x(0).

    Differs from the authors' code: losses are means over the batch (there sums, both terms: the same ratio); every
    epoch samples edges by degrees, as in the paper (there, every second one uniformly).
    """

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 4,
        dropout: Annotated[Fraction, Doc("Share of interactions left out in an epoch, popular nodes' first.")] = 0.1,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of layer-0 vectors.")] = 1e-3,
    ) -> None:
        super().__init__(graph)
        self.layers, self.dropout, self.l2_weight = layers, dropout, l2_weight
        self.nodes = node_table(graph.n_users, graph.n_items, dim, generator)
        self.adjacency = self.pruned = normalize(graph)

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Prune the interaction graph."""
        if self.dropout:
            self.pruned = normalize(prune_edges(self.graph, self.dropout, generator))

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr` on the final vectors, and `l2` on those of layer 0."""
        nodes = (batch.users, batch.positives + self.graph.n_users, batch.negatives + self.graph.n_users)
        users, positives, negatives = layer_refined_at(self.pruned, self.nodes.all(), self.layers, *nodes)
        return {
            "bpr": bpr_of_vectors(users, positives, negatives),
            "l2": self.l2_weight * l2(*self.nodes.rows(*nodes), batch=len(users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """The final vectors over the whole interaction graph."""
        vectors = layer_refined(self.adjacency, self.nodes.all(), self.layers)
        return Embeddings(*self.graph.sides(vectors), parts={"id": slice(0, vectors.shape[1])})
