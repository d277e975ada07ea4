"""BM3: self-supervised user and item vectors that predict each other under dropout, without negatives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, NonNegativeFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph, dropout, normalize, propagate, propagate_to
from lmm4rec.nn.losses import cosine_distance, l2
from lmm4rec.nn.projections import Affine, Projections, has_content
from lmm4rec.nn.tables import node_table
from lmm4rec.recommenders.base import Recommender

__all__ = ["BM3"]


class BM3(Recommender):
    """Bootstrapped multi-modal model (Zhou et al., WWW 2023, arXiv 2207.05969).

    h_u and h_i are the mean of `layers` steps over the interaction graph, with the item's own id vector added once
    more, and h_i^m = W_m x + b are its projected features (sec. 3.1). The predictor f is applied to one side of a pair;
    the other side is the target t(h), which is h under dropout and without gradient (sec. 3.2.1). With C(a, b) = 1 -
    cos(a, b), over the batch's positive pairs (sec. 3.2.2 to 3.2.4; the paper's C lacks the 1, which changes no
    gradient):

    - `reconstruct`: C(f(h_u), t(h_i)) + C(f(h_i), t(h_u))
    - `align`, between modalities: sum over m of C(f(h_i^m), t(h_i))
    - `mask`, within one: sum over m of C(f(h_i^m), t(h_i^m))
    - `l2`: `l2_weight` times half the squared norms of h_u and h_i.

    `align` and `mask` carry `content_weight`. Score: f(h_u) · f(h_i) (sec. 3.3). The batch's negatives are not used.
    An item that lacks a modality is left out of its `align` and `mask`.

    Differs from the authors' code: l2 of the batch's vectors as in the paper (there: unsquared norms of both whole
    tables over the number of items, so that their weights of 0.1 and 0.01 are far too strong here); `align` and `mask`
    have the same weight as `reconstruct`, as in the paper (there: 2); the features are not trained (there they are:
    `train_features`). Dropout, predictor and projections are computed for the batch's rows alone, which changes no
    number.
    """

    uses_content = True
    shards_tables = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 1,
        dropout: Annotated[Fraction, Doc("Share of a target vector's numbers that are set to zero.")] = 0.3,
        content_weight: Annotated[NonNegativeFloat, Doc("Weight of the alignment losses; the authors have 2.")] = 1.0,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of the batch's vectors.")] = 1e-3,
        train_features: Annotated[bool, Doc("Train the features too, as the authors' code does.")] = False,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.dropout = layers, dropout
        self.content_weight, self.l2_weight = content_weight, l2_weight
        self.nodes = node_table(graph.n_users, graph.n_items, dim, generator)
        self.projections = Projections(features, dim, generator, trained=train_features)
        self.predictor = Affine(dim, dim, generator)
        self.adjacency = normalize(graph)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`reconstruct`, `align`, `mask` and `l2`."""
        users, items = self._vectors_of(batch.users, batch.positives)
        target_users, target_items = self._target(users, generator), self._target(items, generator)
        reconstruct = cosine_distance(self.predictor(users), target_items) + cosine_distance(
            self.predictor(items), target_users
        )
        align, mask = [], []
        distinct, where = torch.unique(batch.positives, return_inverse=True)
        for x in self.projections(features, distinct).values():
            has = has_content(x)[where]
            content = select_rows(x, where)
            predicted = self.predictor(content)
            align.append(cosine_distance(predicted, target_items, has))
            mask.append(cosine_distance(predicted, self._target(content, generator), has))
        return {
            "reconstruct": reconstruct,
            "align": self.content_weight * torch.stack(align).sum(),
            "mask": self.content_weight * torch.stack(mask).sum(),
            "l2": self.l2_weight * l2(users, items, batch=len(users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """f(h_u) and f(h_i); content takes part in training only."""
        users, items = (self.predictor(side) for side in self._vectors())
        return Embeddings(users, items, parts={"id": slice(0, users.shape[1])})

    def _vectors(self) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        users, items = self.graph.sides(propagate(self.adjacency, self.nodes.all(), self.layers))
        return users, items + self.nodes.all()[self.graph.n_users :]

    def _vectors_of(
        self, users: Int[Tensor, " batch"], items: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        """`_vectors` of a batch."""
        nodes, of_items = self.nodes.all(), items + self.graph.n_users
        of_users, propagated = propagate_to(self.adjacency, nodes, self.layers, users, of_items)
        return of_users, propagated + select_rows(nodes, of_items)

    def _target(self, x: Float[Tensor, "batch dim"], generator: torch.Generator) -> Float[Tensor, "batch dim"]:
        return dropout(x.detach(), self.dropout, generator)
