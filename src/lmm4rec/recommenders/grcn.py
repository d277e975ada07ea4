"""GRCN: graph convolution of id vectors over an interaction graph that is refined by item content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.matrices import select_rows
from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, NonNegativeInt, PositiveInt
from lmm4rec.nn.graph import InteractionGraph, pattern
from lmm4rec.nn.losses import bpr_of_vectors, l2
from lmm4rec.nn.projections import content_product, has_content, xavier_weights
from lmm4rec.nn.tables import xavier_table
from lmm4rec.nn.unit_vectors import unit_vectors
from lmm4rec.nn.weighted_matrix import WeightedMatrix
from lmm4rec.recommenders.base import Recommender

__all__ = ["GRCN"]


class GRCN(Recommender):
    """Graph-refined convolutional network (Wei et al., MM 2020, arXiv 2111.02036).

    Graph refining, in each modality m, with f_i = LeakyReLU(W i_m + b) the item's vector and p_u the user's trained
    prototype, both always scaled to length 1:

    - neighbor routing, `routing` times: p_u <- p_u + sum over u's items of a(u, i) f_i, where a(u, .) is the softmax of
      p_u · f_i over the items of u;
    - the affinity of an edge is that softmax for the message to the user, and the softmax of the same products over the
      users of i for the message to the item;
    - an edge's weight is the largest over modalities of affinity times the sender's trained confidence in that
      modality, and 0 where that is negative: the edge is pruned.

    Graph convolution: id vectors scaled to length 1 are propagated `layers` steps over the weighted edges and summed
    over layers. User and item vectors are these, concatenated with each modality's vectors after one step over its own
    affinities; score = u · i. Loss: BPR plus `l2_weight` times half the squared norms of the batch's id vectors and
    prototypes.

    Without `ids`, vectors are those of the modalities alone, and no graph is refined.

    An item that lacks a modality has no affinity in it; where it lacks all, its edges have the weights of a mean over
    neighbors.

    Differs from the authors' code: prototypes are routed (there, and in the public toolbox's port, messages
    of the routing go from users to items, so that prototypes never change); `layers` is free (there two); confidences
    start at 1 (there around 0, so that id vectors are hardly propagated at first); negative weights are pruned, which
    is their default but not the setting of their published commands; the l2 term is a sum (there a mean over all
    numbers: their 1e-3 for TikTok at width 64 is about 1.6e-5 here).
    """

    uses_content = True
    spreads_content = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the id vectors.")] = 64,
        ids: Annotated[bool, Doc("A vector for each user and item id; false: prototypes and content alone.")] = True,
        content_dim: Annotated[PositiveInt, Doc("Width of prototypes and projected features in each modality.")] = 64,
        layers: Annotated[PositiveInt, Doc("Graph convolutions of the id vectors over the refined graph.")] = 2,
        routing: Annotated[NonNegativeInt, Doc("Rounds in which users' prototypes move toward their items.")] = 3,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of ids and prototypes.")] = 1e-2,
    ) -> None:
        super().__init__(graph, features)
        self.layers, self.routing, self.l2_weight = layers, routing, l2_weight
        nodes = graph.n_users + graph.n_items
        self.ids = xavier_table(nodes, dim, generator) if ids else None
        if ids:
            self.confidence = nn.Parameter(torch.ones(nodes, len(features)))
        self.prototypes = nn.ParameterDict({m: xavier_table(graph.n_users, content_dim, generator) for m in features})
        self.projections = xavier_weights(features, content_dim, generator)
        self.offsets = nn.ParameterDict({modality: nn.Parameter(torch.zeros(content_dim)) for modality in features})
        self.pattern = pattern(graph)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr` on the concatenated vectors, and `l2` on id vectors and prototypes."""
        all_users, all_items = self._vectors(features)
        users, positives, negatives = (
            select_rows(all_users, batch.users),
            select_rows(all_items, batch.positives),
            select_rows(all_items, batch.negatives),
        )
        nodes = (batch.users, batch.positives + len(all_users), batch.negatives + len(all_users))
        regularized = [] if self.ids is None else [*self.ids.rows(*nodes)]
        regularized += [prototypes.rows(batch.users) for prototypes in self.prototypes.values()]
        return {
            "bpr": bpr_of_vectors(users, positives, negatives),
            "l2": self.l2_weight * l2(*regularized, batch=len(users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """Id vectors over the refined graph, concatenated with each modality's vectors."""
        users, items = self._vectors(features)
        ids = users.shape[1] - sum(table.shape[1] for table in self.prototypes.values())
        parts, start = {} if self.ids is None else {"id": slice(0, ids)}, ids
        for modality in self.projections:
            parts[modality] = slice(start, start := start + self.prototypes[modality].shape[1])
        return Embeddings(users, items, parts=parts)

    def _vectors(self, features: Features) -> tuple[Float[Tensor, "users dims"], Float[Tensor, "items dims"]]:
        """The final vectors: ids over the refined graph, then each modality."""
        users, items, shares = [], [], []
        for modality in self.projections:
            content, edges = self._content(features[modality], modality)
            prototypes, affinity = self._route(self.prototypes[modality].all(), content, edges)
            by_user, by_item = self._softmax_over_items(affinity), self._softmax_over_users(affinity)
            users.append(prototypes + self._weigh(by_user)(content))
            items.append(content + self._weigh(by_item).reverse(prototypes))
            shares.append((by_user, by_item, edges))
        if self.ids is not None:
            ids = self._convolve(self.ids.all(), *self._refined(shares))
            users, items = [ids[0], *users], [ids[1], *items]
        return torch.cat(users, dim=1), torch.cat(items, dim=1)

    def _refined(
        self, shares: Sequence[tuple[Float[Tensor, " edges"], ...]]
    ) -> tuple[Float[Tensor, " edges"], Float[Tensor, " edges"]]:
        """The weights of the edges to users and to items, from the affinities of each modality and where it has any."""
        graph = self.graph
        user_confidence, item_confidence = self.confidence[: graph.n_users], self.confidence[graph.n_users :]
        to_users = [by_user * item_confidence[:, m][graph.items] for m, (by_user, _, _) in enumerate(shares)]
        to_items = [by_item * user_confidence[:, m][graph.users] for m, (_, by_item, _) in enumerate(shares)]
        # edges to items that lack all modalities
        without_content = (torch.stack([edges for _, _, edges in shares]).sum(dim=0) == 0).float()
        to_users += [without_content / graph.user_degrees[graph.users]]
        to_items += [without_content / graph.item_degrees[graph.items]]
        return torch.stack(to_users).amax(dim=0).relu(), torch.stack(to_items).amax(dim=0).relu()

    def _content(
        self, features: Float[Tensor, "items width"], modality: str
    ) -> tuple[Float[Tensor, "items dim"], Float[Tensor, " edges"]]:
        """The items' vectors in a modality, zero where they lack it, and 1 at the edges to those that have it."""
        product = content_product(features, self.projections[modality])
        present = has_content(product)
        content = unit_vectors(F.leaky_relu(product + self.offsets[modality]))
        return torch.where(present[:, None], content, 0.0), present[self.graph.items].float()

    def _route(
        self,
        prototypes: Float[Tensor, "users dim"],
        content: Float[Tensor, "items dim"],
        edges: Float[Tensor, " edges"],
    ) -> tuple[Float[Tensor, "users dim"], Float[Tensor, " edges"]]:
        """The routed prototypes, and exp(p_u · f_i) at each edge, 0 where the item lacks the modality."""
        prototypes = unit_vectors(prototypes)
        affinity = self.pattern.dots(prototypes, content).exp() * edges
        for _ in range(self.routing):
            messages = self._weigh(self._softmax_over_items(affinity))(content)
            prototypes = unit_vectors(prototypes + messages)
            affinity = self.pattern.dots(prototypes, content).exp() * edges
        return prototypes, affinity

    def _weigh(self, values: Float[Tensor, " edges"]) -> WeightedMatrix:
        return WeightedMatrix(self.pattern, values)

    def _softmax_over_items(self, affinity: Float[Tensor, " edges"]) -> Float[Tensor, " edges"]:
        """Each edge's share of its user's affinities; the products of unit vectors need no shift before exp."""
        total = self._weigh(affinity)(affinity.new_ones(self.graph.n_items, 1))[:, 0]
        return affinity / total.clamp(min=1e-12)[self.graph.users]

    def _softmax_over_users(self, affinity: Float[Tensor, " edges"]) -> Float[Tensor, " edges"]:
        """Each edge's share of its item's affinities."""
        total = self._weigh(affinity).reverse(affinity.new_ones(self.graph.n_users, 1))[:, 0]
        return affinity / total.clamp(min=1e-12)[self.graph.items]

    def _convolve(
        self,
        ids: Float[Tensor, "nodes dim"],
        to_users: Float[Tensor, " edges"],
        to_items: Float[Tensor, " edges"],
    ) -> tuple[Float[Tensor, "users dim"], Float[Tensor, "items dim"]]:
        """The id vectors, summed over the layers of the refined graph."""
        ids = unit_vectors(ids)
        users, items = ids[: self.graph.n_users], ids[self.graph.n_users :]
        user_sum, item_sum = users, items
        for _ in range(self.layers):
            users, items = self._weigh(to_users)(items), self._weigh(to_items).reverse(users)
            user_sum, item_sum = user_sum + users, item_sum + items
        return user_sum, item_sum
