"""DualGNN: preferences by modality over the interaction graph, and users who learn from users with the same items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, PositiveInt
from lmm4rec.nn.batch_nodes import distinct_nodes
from lmm4rec.nn.graph import InteractionGraph, normalize
from lmm4rec.nn.losses import bpr_of_rows, l2
from lmm4rec.nn.modality_nodes import ModalityNodes
from lmm4rec.nn.tables import Table
from lmm4rec.nn.user_graph import co_occurrence
from lmm4rec.recommenders.base import Recommender

__all__ = ["DualGNN"]


class DualGNN(Recommender):
    """Dual graph neural network (Wang et al., TMM 2021, doi 10.1109/TMM.2021.3138298).

    - By modality m: x_m are the users' trained preferences and the items' mapped features, scaled to length 1
      (`nn/modality_nodes.py`); h_m = sum of S^l x_m over l = 0, ..., `layers`, with S = D^-1/2 A D^-1/2 over the
      interaction graph.
    - Users join modalities by trained weights of their own, u = sum over m of a(u, m) h_m(u), which start equal; then
      they gather from their `neighbors` in the user co-occurrence graph: u + sum over v of w(u, v) v, with w the
      softmax of the numbers of items in common. Items are the sum of their h_m.
    - Score: user · item. Loss: BPR plus `l2_weight` times half the squared norms of the batch's users' preferences and
      weights.

    An item that lacks a modality starts from zeros there.

    Differs from the authors' code: each weight a(u, m) is that of its own modality (in the public toolbox an in-place
    sum has overwritten the image's vectors by image + text: a user is w_0 (image + text) + w_1 text, which is the same
    here with a = [w_0, w_0 + w_1]); neighbors are those who exist (there, a user with fewer has some of them twice,
    drawn at random); BPR in natural logarithms (there log2); l2 is a sum for each example (there means over numbers,
    also of a table of items that has no other effect); ranking uses the current weights (there those of the last batch,
    before its step).
    """

    uses_content = True
    spreads_content = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the vectors in each modality.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions over the interaction graph.")] = 2,
        neighbors: Annotated[PositiveInt, Doc("Users with common items from whom a user gathers.")] = 40,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of preferences and weights.")] = 1e-3,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.l2_weight = layers, l2_weight
        self.content = ModalityNodes(graph.n_users, features, dim, generator)
        self.importance = Table(torch.full((graph.n_users, len(features)), 1 / max(len(features), 1)))
        self.adjacency, self.similar_users = normalize(graph), co_occurrence(graph, neighbors)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr`, and `l2` on preferences and weights."""
        nodes = distinct_nodes(batch)
        by_user, by_item = self._by_modality(features)
        users = self._join(by_user)
        chosen = select_rows(users, nodes.users) + self.similar_users.at(nodes.users, users)
        items = self._sum(select_rows(by_item, nodes.items))
        regularized = [*self.content.preferences_of(batch.users), self.importance.rows(batch.users)]
        return {
            "bpr": bpr_of_rows(select_rows(torch.cat([chosen, items]), nodes.rows)),
            "l2": self.l2_weight * l2(*regularized, batch=len(batch.users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """Users with what they gather from similar users, and items."""
        by_user, by_item = self._by_modality(features)
        users = self._join(by_user)
        return Embeddings(users + self.similar_users(users), self._sum(by_item))

    def _by_modality(
        self, features: Features
    ) -> tuple[Float[Tensor, "users modalities_dim"], Float[Tensor, "items modalities_dim"]]:
        return self.graph.sides(self.content(features, self.adjacency, self.layers))

    def _join(self, by_user: Float[Tensor, "users modalities_dim"]) -> Float[Tensor, "users dim"]:
        importance = self.importance.all()
        return torch.einsum("umd,um->ud", by_user.view(*importance.shape, -1), importance)

    def _sum(self, by_item: Float[Tensor, "items modalities_dim"]) -> Float[Tensor, "items dim"]:
        return by_item.view(len(by_item), self.importance.shape[1], -1).sum(1)
