"""COHESION: modalities fused with ids before a composite graph convolution, and beside each other after it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, NonNegativeInt, PositiveInt
from lmm4rec.nn.graph import InteractionGraph, after_steps, normalize
from lmm4rec.nn.item_graph import ContentGraph, ModalityWeights, graph_weights, similar_items
from lmm4rec.nn.layer_refinement import layer_refined
from lmm4rec.nn.losses import bpr, l2
from lmm4rec.nn.projections import DeepProjections
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.tables import node_table, xavier_table
from lmm4rec.nn.unit_vectors import unit_vectors
from lmm4rec.nn.user_graph import co_occurrence
from lmm4rec.recommenders.base import Recommender

__all__ = ["COHESION"]


class COHESION(Recommender):
    """Composite graph convolution with dual-stage fusion (Xu et al., SIGIR 2025, arXiv 2504.04452).

    - Early fusion: the items of modality m are the quadratic mean of id and content, sqrt((id² + f_m²) / 2) for each
      number, with f_m = LeakyReLU(x W_m + b_m) V_m + c_m. Each modality has a table of users. The branches are the ids
      and the modalities, all rows scaled to length 1.
    - Interaction graph: x(l) = cos(A x(l-1), x(0)) · A x(l-1) in each branch (LayerGCN), summed over l = 0 to `layers`.
    - Late fusion: the branches beside each other. Items get `item_layers` steps over the frozen item graph of FREEDOM
      added, users one step over the user graph: the `user_neighbors` with the most items in common, weighted by the
      softmax of these counts (DualGNN).
    - Adaptive optimization: with d_b the difference of the scores of positive and negative in branch b, BPR of the sum
      of (1 - softmax(d)_b) · d_b; the weights have no gradient. Ranking sums the branches' scores as they are. `l2`:
      half the squared norms of the batch's user tables.

    An item that lacks a modality is its id alone there.

    Differs from the authors' code: the id branch trains (there its vectors are cut off from the gradient, so that the
    ids' user table and map stay as they were drawn) and is made of the ids (there of their mean with a map of
    themselves); users with few neighbors have those (there, some are repeated at random); the logarithm of BPR is the
    natural one (there base 2); ranking computes the vectors anew (there it has those of the last training batch, before
    its step). The features are not trained, there neither.
    """

    uses_content = True
    spreads_content = True
    item_graph = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the vectors in each branch.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 2,
        item_layers: Annotated[NonNegativeInt, Doc("Graph convolutions over the item graph.")] = 1,
        neighbors: Annotated[PositiveInt, Doc("Edges of an item in each modality's graph, its own included.")] = 10,
        modality_weights: ModalityWeights = None,
        user_neighbors: Annotated[PositiveInt, Doc("Edges of a user in the graph of common items, at most.")] = 40,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of the batch's user tables.")] = 1e-3,
        train_features: Annotated[bool, Doc("Train the features too.")] = False,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.item_layers, self.l2_weight = layers, item_layers, l2_weight
        self.ids = node_table(graph.n_users, graph.n_items, dim, generator)
        self.users = nn.ParameterDict({m: xavier_table(graph.n_users, dim, generator) for m in features})
        self.projections = DeepProjections(features, dim, generator, trained=train_features)
        self.adjacency, self.user_graph = normalize(graph), co_occurrence(graph, user_neighbors)
        weights = graph_weights(features, modality_weights or {})
        self.similar_items = ContentGraph(partial(similar_items, neighbors=neighbors, weights=weights))

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Rebuild the item graph where the features have changed."""
        self.similar_items.renew(features)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, weighted by branch, and `l2`."""
        vectors = torch.cat(self._vectors(features, self.similar_items.current(features)))
        items = torch.cat([batch.positives[:, None], batch.negatives], dim=1) + self.graph.n_users
        rows = select_rows(vectors, torch.cat([batch.users[:, None], items], dim=1))
        rows = rows.view(*rows.shape[:2], 1 + len(self.users), -1)
        scores = torch.einsum("bmd,bcmd->bcm", rows[:, 0], rows[:, 1:])
        difference = scores[:, :1] - scores[:, 1:]
        weights = 1 - difference.detach().softmax(2)
        total = (weights * difference).sum(2)
        tables = [self.ids.rows(batch.users), *(table.rows(batch.users) for table in self.users.values())]
        return {
            "bpr": bpr(total.new_zeros(len(total)), -total),
            "l2": self.l2_weight * l2(*tables, batch=len(rows)),
        }

    def embed(self, features: Features) -> Embeddings:
        """The branches beside each other."""
        return Embeddings(*self._vectors(features, self.similar_items(features)))

    def _vectors(
        self, features: Features, item_graph: SparseMatrix
    ) -> tuple[Float[Tensor, "users width"], Float[Tensor, "items width"]]:
        """All users and items after the three graphs, branch by branch: ids first."""
        ids = self.graph.sides(self.ids.all())[1]
        branches = [self.ids.all()]
        for m, x in self.projections(features).items():
            # the small number keeps the gradient finite where both are 0
            branches.append(torch.cat([self.users[m].all(), ((ids.square() + x.square()) / 2 + 1e-8).sqrt()]))
        start = unit_vectors(torch.stack(branches, dim=1))
        users, items = self.graph.sides((start + layer_refined(self.adjacency, start, self.layers)).flatten(1))
        return users + self.user_graph(users), items + after_steps(item_graph, items, self.item_layers)
