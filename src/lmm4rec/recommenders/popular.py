"""Popular: items ranked by their number of interactions."""

from __future__ import annotations

import torch

from lmm4rec.core.types import Embeddings, Features
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender

__all__ = ["Popular"]


class Popular(Recommender):
    """Ranking by the number of users that an item has in training: the baseline that every model must beat."""

    is_trained = False
    is_deterministic = True
    is_personal = False

    def __init__(self, graph: InteractionGraph, features: Features, generator: torch.Generator) -> None:
        super().__init__(graph)

    def embed(self, features: Features) -> Embeddings:
        """One dimension: 1 for every user, the number of interactions for every item."""
        counts = self.graph.item_degrees.float()
        return Embeddings(counts.new_ones(self.graph.n_users, 1), counts[:, None], parts={"bias": slice(0, 1)})
