"""MGCN: content features purified by behavior, propagated by modality and fused by behavior-aware attention."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.batch_nodes import distinct_nodes
from lmm4rec.nn.graph import InteractionGraph, after_steps, normalize, propagate, propagate_to, user_item
from lmm4rec.nn.item_graph import ContentGraph, similar_by_modality
from lmm4rec.nn.losses import bpr_of_rows, info_nce_by_side, l2
from lmm4rec.nn.projections import Affine, Projections, xavier_weight
from lmm4rec.nn.tables import node_table
from lmm4rec.nn.views import shared_and_specific
from lmm4rec.recommenders.base import Recommender

__all__ = ["MGCN"]

Nodes = Float[Tensor, "nodes dim"]


class MGCN(Recommender):
    """Multi-view graph convolution (Yu et al., MM 2023, arXiv 2308.03588).

    - Purifier (eq. 1-2): id vectors ⊙ sigmoid(gate_m(W_m x + b)), a gate of content on the ids.
    - Item view (eq. 6-10): `item_layers` steps of the purified vectors over the kNN graph of modality m (cosine
      similarities, `neighbors` an item, D^-1/2 S D^-1/2); users have the sum of their items' by normalized
      interactions. User-item view (eq. 3-5): the mean of the id vectors over `layers` steps over the interaction graph,
      E.
    - Fuser (eq. 11-15): attention a = softmax over m of q · tanh(Q e_m) gives the shared part s = sum of a_m · e_m; the
      specific part of m, e_m - s, is multiplied by the preference sigmoid(P_m E). Side vector: s plus the mean over m
      of these products.
    - Vector: E + side (eq. 17). Loss (eq. 19): BPR, `contrast_weight` times InfoNCE at `temperature` between side
      vector and E (eq. 16; users and items of the batch), `l2_weight` times half the squared norms of the batch's
      vectors, as in the authors' code (in the paper, of the model's parameters).

    An item that lacks a modality has no edge there: its view in that modality is zeros.

    Differs from the authors' code: side vectors are those of the paper (`average_shared`: theirs, the mean of s and the
    specific parts); the features are not trained (there they are: `train_features`), since the paper trains only
    what follows them; batches beyond 2,048 are contrasted in groups (there whole). Operations on single nodes are
    computed for the batch's nodes alone, which changes no number.
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
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 2,
        item_layers: Annotated[PositiveInt, Doc("Graph convolutions over the item graph.")] = 1,
        neighbors: Annotated[PositiveInt, Doc("Edges of an item in each modality's graph, its own included.")] = 10,
        temperature: Annotated[PositiveFloat, Doc("Temperature of the loss between content and behavior.")] = 0.2,
        contrast_weight: Annotated[NonNegativeFloat, Doc("Weight of that contrastive loss.")] = 1e-2,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of the batch's final vectors.")] = 1e-4,
        average_shared: Annotated[bool, Doc("Average shared and specific parts, as the authors' code does.")] = False,
        train_features: Annotated[bool, Doc("Train the features too, as the authors' code does.")] = False,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.item_layers, self.temperature = layers, item_layers, temperature
        self.contrast_weight, self.l2_weight, self.average_shared = contrast_weight, l2_weight, average_shared
        self.nodes = node_table(graph.n_users, graph.n_items, dim, generator)
        self.projections = Projections(features, dim, generator, trained=train_features)
        self.gates = nn.ModuleDict({m: Affine(dim, dim, generator) for m in features})
        self.preferences = nn.ModuleDict({m: Affine(dim, dim, generator) for m in features})
        self.query, self.asked = Affine(dim, dim, generator), xavier_weight(dim, 1, generator)
        self.adjacency, self.interactions = normalize(graph), user_item(graph, "symmetric")
        self.content = ContentGraph(partial(similar_by_modality, neighbors=neighbors))

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Rebuild the item graphs where the features have changed."""
        self.content.renew(features)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, `contrast` and `l2`."""
        nodes = distinct_nodes(batch)
        views = self._item_views(features, self.content.current(features))
        content = torch.cat([self.interactions.at(nodes.users, views), select_rows(views, nodes.items)])
        of_batch = torch.cat([nodes.users, nodes.items + self.graph.n_users])
        (behavior,) = propagate_to(self.adjacency, self.nodes.all(), self.layers, of_batch)
        side = self._fuse(behavior, content)
        final = select_rows(behavior + side, nodes.rows)
        losses = {"bpr": bpr_of_rows(final), "l2": self.l2_weight * l2(final, batch=len(final))}
        if self.contrast_weight:
            contrast = info_nce_by_side(side, behavior, nodes.rows, temperature=self.temperature)
            losses["contrast"] = self.contrast_weight * contrast
        return losses

    def embed(self, features: Features) -> Embeddings:
        """E + side of all users and items."""
        views = self._item_views(features, self.content(features))
        behavior = propagate(self.adjacency, self.nodes.all(), self.layers)
        side = self._fuse(behavior, torch.cat([self.interactions(views), views]))
        return Embeddings(*self.graph.sides(behavior + side))

    def _item_views(self, features: Features, graphs: nn.ModuleDict) -> Float[Tensor, "items modalities_dim"]:
        """The item view of all items in each modality, concatenated (eq. 1-2, 6-9)."""
        ids = self.graph.sides(self.nodes.all())[1]
        views = []
        for modality, projected in self.projections(features).items():
            purified = ids * self.gates[modality](projected).sigmoid()
            views.append(after_steps(graphs[modality], purified, self.item_layers))
        return torch.cat(views, dim=1)

    def _fuse(self, behavior: Nodes, content: Float[Tensor, "nodes modalities_dim"]) -> Nodes:
        """The side vectors of some nodes (eq. 11-15)."""
        views = content.view(len(content), len(self.preferences), -1)
        shared, specific = shared_and_specific(views, self.query, self.asked)
        preferences = torch.stack([prefer(behavior) for prefer in self.preferences.values()], dim=1).sigmoid()
        specific = (preferences * specific).sum(1)
        if self.average_shared:
            return (shared + specific) / (views.shape[1] + 1)
        return shared + specific / views.shape[1]
