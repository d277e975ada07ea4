"""DRAGON: dual representations by modality, improved by a graph of users and a graph of items."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, PositiveInt
from lmm4rec.nn.batch_nodes import distinct_nodes
from lmm4rec.nn.graph import InteractionGraph, after_steps, normalize
from lmm4rec.nn.item_graph import ContentGraph, ModalityWeights, graph_weights, similar_items
from lmm4rec.nn.losses import bpr_of_rows, l2
from lmm4rec.nn.modality_nodes import ModalityNodes
from lmm4rec.nn.tables import Table
from lmm4rec.nn.user_graph import co_occurrence
from lmm4rec.recommenders.base import Recommender

__all__ = ["DRAGON"]


class DRAGON(Recommender):
    """Dyadic relations and homogeneous graphs (Zhou et al., ECAI 2023, arXiv 2301.12097).

    - By modality m: the vectors h_m of users and items are those of DualGNN (`nn/modality_nodes.py`): preferences and
      mapped features of length 1, summed over `layers` steps over the interaction graph.
    - Attentive concatenation: users are [a(u, m) h_m(u)] for all m, with trained weights of their own which start
      equal; items are [h_m(i)].
    - Homogeneous graphs: users add what they gather from their `neighbors` with the most items in common, by the
      softmax of these numbers; items add their vectors after `item_layers` steps over the frozen graph of similar items
      (FREEDOM's: `item_neighbors` nearest in each modality, mixed by `modality_weights`).
    - Score: user · item. Loss: BPR plus `l2_weight` times half the squared norms of the batch's users' preferences and
      weights.

    An item that lacks a modality starts from zeros there, and has no edge in its graph. The item graph is rebuilt at
    the start of an epoch, and for ranking, where the features have changed.

    Differs from the authors' code: users' neighbors are those who exist (there, a user with fewer has some of them
    twice, drawn at random); BPR in natural logarithms (there log2); l2 is a sum for each example (there means over
    numbers); ranking uses the current weights (there those of the last batch, before its step); the item graph is not
    cached on disk.
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
        neighbors: Annotated[PositiveInt, Doc("Users with common items from whom a user gathers.")] = 40,
        item_neighbors: Annotated[
            PositiveInt, Doc("Edges of an item in each modality's graph, its own included.")
        ] = 10,
        modality_weights: ModalityWeights = None,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of preferences and weights.")] = 1e-3,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.item_layers, self.l2_weight = layers, item_layers, l2_weight
        self.content = ModalityNodes(graph.n_users, features, dim, generator)
        self.importance = Table(torch.full((graph.n_users, len(features)), 1 / max(len(features), 1)))
        self.adjacency, self.similar_users = normalize(graph), co_occurrence(graph, neighbors)
        weights = graph_weights(features, modality_weights or {})
        self.similar_items = ContentGraph(partial(similar_items, neighbors=item_neighbors, weights=weights))

    def begin_epoch(self, features: Features, generator: torch.Generator) -> None:
        """Rebuild the item graph where the features have changed."""
        self.similar_items.renew(features)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, and `l2` on preferences and weights."""
        nodes = distinct_nodes(batch)
        users, items = self._concatenated(features)
        item_graph = self.similar_items.current(features)
        chosen_users = select_rows(users, nodes.users) + self.similar_users.at(nodes.users, users)
        similar = item_graph.at(nodes.items, after_steps(item_graph, items, self.item_layers - 1))
        chosen_items = select_rows(items, nodes.items) + similar
        regularized = [*self.content.preferences_of(batch.users), self.importance.rows(batch.users)]
        return {
            "bpr": bpr_of_rows(select_rows(torch.cat([chosen_users, chosen_items]), nodes.rows)),
            "l2": self.l2_weight * l2(*regularized, batch=len(batch.users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """Users and items with what both gather from nodes of their kind; each modality has its own columns."""
        users, items = self._concatenated(features)
        users = users + self.similar_users(users)
        items = items + after_steps(self.similar_items(features), items, self.item_layers)
        width = items.shape[1] // len(features)
        parts = {m: slice(place * width, (place + 1) * width) for place, m in enumerate(self.content.maps)}
        return Embeddings(users, items, parts=parts)

    def _concatenated(
        self, features: Features
    ) -> tuple[Float[Tensor, "users modalities_dim"], Float[Tensor, "items modalities_dim"]]:
        users, items = self.graph.sides(self.content(features, self.adjacency, self.layers))
        importance = self.importance.all()
        weighted = users.view(*importance.shape, -1) * importance[:, :, None]
        return weighted.flatten(1), items
