"""Cooccurrence: items that users of the same items have, without training and without content."""

from __future__ import annotations

import torch

from lmm4rec.core.types import Features, Neighbors, NonNegativeFloat
from lmm4rec.nn.csr import csr
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender


class Cooccurrence(Recommender):
    """Conditional probability of items (Deshpande and Karypis 2004, doi 10.1145/963770.963776, eq. 2).

    score(u, i) = sum over the items j of user u of n(j, i) / (n(j) · n(i)^popularity_penalty), where n counts users.
    """

    is_trained = False  # a closed form: `embed` does all the work
    is_deterministic = True  # and draws no random number

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        popularity_penalty: NonNegativeFloat = 0.5,
    ) -> None:
        super().__init__(graph)
        self.popularity_penalty = popularity_penalty

    def embed(self, features: Features) -> Neighbors:
        """The users' histories and the item-item matrix, [candidate items, items of the history]."""
        graph = self.graph
        seen = csr(graph.users, graph.items, torch.ones(len(graph.users)), (graph.n_users, graph.n_items))
        users = seen.to_dense()
        together = users.T @ users
        together.fill_diagonal_(0)
        counts = graph.item_degrees.float().clamp(min=1)
        return Neighbors(seen, together / counts / counts[:, None] ** self.popularity_penalty)
