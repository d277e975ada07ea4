"""PGL: preferences and content trained over the principal part of the interaction graph, ranked over all of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Literal

import torch
from annotated_types import Interval
from jaxtyping import Float
from scipy.sparse.linalg import svds
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.batch_nodes import distinct_nodes
from lmm4rec.nn.graph import (
    InteractionGraph,
    after_steps,
    dropout,
    normalize,
    propagate,
    propagate_to,
    prune_edges,
    symmetric_weights,
)
from lmm4rec.nn.item_graph import ContentGraph, ModalityWeights, graph_weights, similar_items
from lmm4rec.nn.losses import bpr_of_rows, info_nce_by_side
from lmm4rec.nn.neighborhoods import interaction_matrix
from lmm4rec.nn.projections import Projections
from lmm4rec.nn.tables import xavier_table
from lmm4rec.nn.unit_vectors import unit_vectors
from lmm4rec.recommenders.base import Recommender

__all__ = ["PGL"]


class PGL(Recommender):
    """Principal graph learning (Yu et al., AAAI 2025, doi 10.1609/aaai.v39i12.33429), without item ids.

    - Nodes: users have a trained preference of `dim` numbers in each modality, items W_m x + b scaled to length 1,
      concatenated over modalities.
    - Principal subgraph, for training: "local", in each epoch a share of `kept` edges, sampled without replacement by
      1 / sqrt(d_u · d_i) and normalized anew; "global", the truncated singular value decomposition of the normalized
      interactions with `rank` values, kept as its factors, or the whole graph where it has no more values. Ranking uses
      the whole graph.
    - Vectors: the mean over `layers` steps over the graph; items add their nodes after `item_layers` steps over the
      frozen graph of similar items (FREEDOM's: `neighbors` nearest in each modality, mixed by `modality_weights`).
    - Score: user · item. Loss: BPR plus `contrast_weight` times InfoNCE at `temperature` between two views of the same
      vector, each with a share `dropout` of its numbers set to zero: the mean of that of the batch's users and that of
      its positive items.

    An item that lacks a modality has zeros and no edge there. The item graph is rebuilt at the start of an epoch, and
    for ranking, where the features have changed.

    Differs from the authors' code: the global graph is the truncated decomposition (there each of a quarter of the
    values is multiplied by one of the smallest that were computed, and entries below 1e-3 are cut); two views of a node
    are drawn once for a batch, and contrasted in groups of at most 2,048 (there the whole batch); the features are not
    trained (there they are: `train_features`); the item graph is not cached on disk.
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
        dim: Annotated[PositiveInt, Doc("Width of the vectors in each modality.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 2,
        item_layers: Annotated[PositiveInt, Doc("Graph convolutions over the item graph.")] = 1,
        neighbors: Annotated[PositiveInt, Doc("Edges of an item in each modality's graph, its own included.")] = 10,
        modality_weights: ModalityWeights = None,
        subgraph: Annotated[Literal["local", "global"], Doc("How the graph of training is extracted.")] = "local",
        kept: Annotated[float, Interval(gt=0, le=1), Doc("Share of interactions in an epoch's local subgraph.")] = 0.3,
        rank: Annotated[PositiveInt, Doc("Singular values in the global subgraph.")] = 16,
        dropout: Annotated[Fraction, Doc("Share of a view's numbers that are set to zero in the contrast.")] = 0.2,
        temperature: Annotated[PositiveFloat, Doc("Temperature of the contrastive loss.")] = 0.2,
        contrast_weight: Annotated[NonNegativeFloat, Doc("Weight of the contrastive loss.")] = 1e-2,
        train_features: Annotated[bool, Doc("Train the features too, as the authors' code does.")] = False,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.item_layers, self.kept, self.dropout = layers, item_layers, kept, dropout
        self.temperature, self.contrast_weight, self.is_local = temperature, contrast_weight, subgraph == "local"
        self.users = xavier_table(graph.n_users, len(features) * dim, generator)
        self.projections = Projections(features, dim, generator, trained=train_features)
        self.adjacency = normalize(graph)
        truncates = not self.is_local and rank < min(graph.n_users, graph.n_items)
        self.subgraph: nn.Module = _LowRank(graph, rank) if truncates else self.adjacency
        weights = graph_weights(features, modality_weights or {})
        self.similar_items = ContentGraph(partial(similar_items, neighbors=neighbors, weights=weights))

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Sample the local subgraph; rebuild the item graph where the features have changed."""
        self.similar_items.renew(features)
        if self.is_local:
            self.subgraph = normalize(prune_edges(self.graph, 1 - self.kept, generator))

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr` and `contrast`."""
        nodes = distinct_nodes(batch)
        content = self._content(features)
        starts, of_batch = torch.cat([self.users.all(), content]), (nodes.users, nodes.items + self.graph.n_users)
        users, items = propagate_to(self.subgraph, starts, self.layers, *of_batch)
        item_graph = self.similar_items.current(features)
        similar = item_graph.at(nodes.items, after_steps(item_graph, content, self.item_layers - 1))
        vectors = torch.cat([users, items + similar])
        losses = {"bpr": bpr_of_rows(select_rows(vectors, nodes.rows))}
        if self.contrast_weight:
            one, other = (dropout(vectors, self.dropout, generator) for _ in range(2))
            contrast = info_nce_by_side(one, other, nodes.rows, temperature=self.temperature)
            losses["contrast"] = self.contrast_weight * contrast / 2
        return losses

    def embed(self, features: Features) -> Embeddings:
        """The vectors over the whole interaction graph; each modality has its own columns."""
        content = self._content(features)
        users, items = self.graph.sides(propagate(self.adjacency, torch.cat([self.users.all(), content]), self.layers))
        similar = after_steps(self.similar_items(features), content, self.item_layers)
        width = content.shape[1] // len(self.projections.maps)
        parts = {m: slice(place * width, (place + 1) * width) for place, m in enumerate(self.projections.maps)}
        return Embeddings(users, items + similar, parts=parts)

    def _content(self, features: Features) -> Float[Tensor, "items modalities_dim"]:
        """The items' nodes: the projections of each modality, of length 1, concatenated."""
        return torch.cat([unit_vectors(x) for x in self.projections(features).values()], dim=1)


class _LowRank(nn.Module):
    """One step over the interaction graph, normalized as in `normalize`, by its `rank` largest singular values.

    There must be fewer of them than users and than items.
    """

    users: Tensor
    items: Tensor

    def __init__(self, graph: InteractionGraph, rank: int) -> None:
        super().__init__()
        matrix = interaction_matrix(graph)
        matrix.data[:] = symmetric_weights(graph).cpu().numpy()  # the graph's edges are sorted as those of the matrix
        left, values, right = svds(matrix, k=rank, random_state=0)
        for name, vectors in (("users", left), ("items", right.T)):
            self.register_buffer(name, torch.from_numpy((vectors * values**0.5).copy()), persistent=False)

    def forward(self, nodes: Float[Tensor, "nodes dims"]) -> Float[Tensor, "nodes dims"]:
        users, items = nodes[: len(self.users)], nodes[len(self.users) :]
        return torch.cat([self.users @ (self.items.T @ items), self.items @ (self.users.T @ users)])
