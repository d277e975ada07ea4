"""Popular: everybody gets what most people liked."""

from __future__ import annotations

import torch

from lmm4rec.core.types import Embeddings, Features
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender

__all__ = ["Popular"]


class Popular(Recommender):
    """Ranks items by how many users liked them in training: the baseline that exposes weak models."""

    is_trained = False
    is_personal = False

    def __init__(self, graph: InteractionGraph, features: Features, generator: torch.Generator) -> None:
        super().__init__(graph)

    def embed(self, features: Features) -> Embeddings:
        """One dimension: 1 for every user, the number of likes for every item."""
        likes = self.graph.item_degrees.float()
        return Embeddings(likes.new_ones(self.graph.n_users, 1), likes[:, None], parts={"bias": slice(0, 1)})
