"""FREEDOM: a frozen item-item graph, and an interaction graph that is pruned anew in each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.matrices import dot_each, select_rows
from lmm4rec.core.types import (
    Batch,
    Embeddings,
    Features,
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveInt,
)
from lmm4rec.nn.graph import InteractionGraph, after_steps, normalize, propagate, propagate_to, prune_edges
from lmm4rec.nn.item_graph import ContentGraph, ModalityWeights, graph_weights, similar_items
from lmm4rec.nn.losses import bpr
from lmm4rec.nn.projections import Projections, has_content
from lmm4rec.nn.sparse import SparseMatrix
from lmm4rec.nn.tables import node_table
from lmm4rec.recommenders.base import Recommender

__all__ = ["FREEDOM"]


class FREEDOM(Recommender):
    """Freezing and denoising graph structures (Zhou and Shen, MM 2023, arXiv 2211.06924).

    - Frozen item graph (sec. 3.1, eq. 1-3): S^m has a 1 where j is among the `neighbors` items most similar to i by the
      cosine of modality m (i itself among them); S = sum of weight_m · D^-1/2 S^m D^-1/2, the weights adding up to 1.
    - Denoised interaction graph (sec. 3.2): each epoch keeps floor(edges · (1 - dropout)) edges, sampled without
      replacement by 1 / sqrt(d_u · d_i), and normalizes the rest; ranking uses the whole graph.
    - Vectors (sec. 3.3, eq. 8): h_i after `item_layers` steps over S, added to the mean over `layers` steps over
      the interaction graph.
    - Loss (sec. 3.3, eq. 10): BPR on the vectors, plus `content_weight` times BPR between the user and W_m x + b
      (eq. 9), summed over modalities.

    The item graph is rebuilt at the start of an epoch, and for ranking, where the features have changed. A pair with
    an item that lacks a modality adds a constant without gradient there.

    Differs from the authors' code: any set of modalities, weighted by name (`modality_weights`; none: all
    equal; the authors give the image 0.1 and the text the rest); the features are not trained (there they
    are: `train_features`), since the paper trains their projections only; the item graph is not cached on disk.
    """

    uses_content = True
    item_graph = True
    shards_tables = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 2,
        item_layers: Annotated[NonNegativeInt, Doc("Graph convolutions over the item graph.")] = 1,
        neighbors: Annotated[PositiveInt, Doc("Edges of an item in each modality's graph, its own included.")] = 10,
        modality_weights: ModalityWeights = None,
        dropout: Annotated[Fraction, Doc("Share of interactions left out in an epoch, popular nodes' first.")] = 0.8,
        content_weight: Annotated[NonNegativeFloat, Doc("Weight of BPR of users and projected features.")] = 1e-3,
        train_features: Annotated[bool, Doc("Train the features too, as the authors' code does.")] = False,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.item_layers = layers, item_layers
        self.dropout, self.content_weight = dropout, content_weight
        self.nodes = node_table(graph.n_users, graph.n_items, dim, generator)
        self.projections = Projections(features, dim, generator, trained=train_features)
        self.adjacency = self.pruned = normalize(graph)
        weights = graph_weights(features, modality_weights or {})
        self.similar_items = ContentGraph(partial(similar_items, neighbors=neighbors, weights=weights))

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Prune the interaction graph; rebuild the item graph where the features have changed."""
        self.similar_items.renew(features)
        if self.dropout:
            self.pruned = normalize(prune_edges(self.graph, self.dropout, generator))

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr` on the vectors, and `content` on the projected features."""
        both = torch.cat([batch.positives[:, None], batch.negatives], dim=1)
        of_batch = batch.users, both + self.graph.n_users
        users, items = propagate_to(self.pruned, self.nodes.all(), self.layers, *of_batch)
        similar = self._similar(self.similar_items.current(features))
        losses = {"bpr": _rank(users, items + select_rows(similar, both))}
        if self.content_weight:
            distinct, where = torch.unique(both, return_inverse=True)
            content = [
                _rank(users, select_rows(x, where), select_rows(has_content(x)[:, None].float(), where))
                for x in self.projections(features, distinct).values()
            ]
            losses["content"] = self.content_weight * torch.stack(content).sum()
        return losses

    def embed(self, features: Features) -> Embeddings:
        """The vectors over the whole interaction graph."""
        users, items = self.graph.sides(propagate(self.adjacency, self.nodes.all(), self.layers))
        return Embeddings(users, items + self._similar(self.similar_items(features)))

    def _similar(self, item_graph: SparseMatrix) -> Float[Tensor, "items dim"]:
        """The items' own vectors after the steps over the item graph."""
        return after_steps(item_graph, self.nodes.all()[self.graph.n_users :], self.item_layers)


def _rank(
    users: Float[Tensor, "batch dim"],
    items: Float[Tensor, "batch candidates dim"],
    has: Float[Tensor, "batch candidates 1"] | None = None,
) -> Float[Tensor, ""]:
    """BPR with the first candidate as the positive; a pair with `has` 0 on either side counts as a tie."""
    scores = dot_each(users, items)
    difference = scores[:, :1] - scores[:, 1:]
    if has is not None:
        difference = difference * has[:, :1, 0] * has[:, 1:, 0]
    return bpr(difference.new_zeros(len(difference)), -difference)
