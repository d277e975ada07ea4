"""SelfCF: self-supervised collaborative filtering over LightGCN, without negatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, NonNegativeFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph, dropout, normalize, propagate, propagate_to
from lmm4rec.nn.losses import cosine_distance, l2
from lmm4rec.nn.projections import Affine
from lmm4rec.nn.tables import node_table
from lmm4rec.recommenders.base import Recommender

__all__ = ["SelfCF"]


class SelfCF(Recommender):
    """Self-supervised collaborative filtering, variant SelfCF_ed (Zhou et al., TORS 2023, arXiv 2107.03019).

    h is the mean of the trained vectors over `layers` steps over the interaction graph (LightGCN), f a linear
    predictor, and t(h) the target: h under `dropout`, without gradient. With C(a, b) = 1 - cos(a, b), over the batch's
    positive pairs:

    - `predict`: (C(f(h_u), t(h_i)) + C(f(h_i), t(h_u))) / 2
    - `l2`: `l2_weight` times half the squared norms of h_u and h_i.

    Score: f(h_u) · h_i + h_u · f(h_i). The batch's negatives are not used.

    Differs from the authors' code: l2 is a mean over the batch (there a sum, beside a mean: their weight at batch 2,048
    is 2,048 times as strong as the same one here); the encoder drops no edges of its own. The variants that perturb by
    earlier vectors (he) and by pruned edges (ep) are not here.
    """

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 2,
        dropout: Annotated[Fraction, Doc("Share of a target vector's numbers that are set to zero.")] = 0.5,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of the batch's vectors.")] = 1e-2,
    ) -> None:
        super().__init__(graph)
        self.layers, self.dropout, self.l2_weight = layers, dropout, l2_weight
        self.nodes = node_table(graph.n_users, graph.n_items, dim, generator)
        self.predictor = Affine(dim, dim, generator)
        self.adjacency = normalize(graph)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`predict` and `l2`."""
        of_batch = batch.users, batch.positives + self.graph.n_users
        users, items = propagate_to(self.adjacency, self.nodes.all(), self.layers, *of_batch)
        target_users, target_items = (dropout(side.detach(), self.dropout, generator) for side in (users, items))
        from_users = cosine_distance(self.predictor(users), target_items)
        from_items = cosine_distance(self.predictor(items), target_users)
        return {
            "predict": (from_users + from_items) / 2,
            "l2": self.l2_weight * l2(users, items, batch=len(users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """[f(h_u), h_u] and [h_i, f(h_i)]."""
        users, items = self.graph.sides(propagate(self.adjacency, self.nodes.all(), self.layers))
        users = torch.cat([self.predictor(users), users], dim=1)
        items = torch.cat([items, self.predictor(items)], dim=1)
        return Embeddings(users, items, parts={"id": slice(0, users.shape[1])})
