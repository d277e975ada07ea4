"""Markov: the items that most often come next after the user's last one."""

from __future__ import annotations

from typing import Annotated

import torch
from typing_extensions import Doc

from lmm4rec.core.types import Features, PositiveFloat
from lmm4rec.nn.csr import csr
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.transitions import Transitions
from lmm4rec.recommenders.base import Recommender

__all__ = ["Markov"]


class Markov(Recommender):
    """First-order Markov chain over the users' sequences, a baseline of sequential recommendation.

    score(u, i) = (n(j, i) + s p(i)) / (n(j) + s) for the last item j of user u, where n(j, i) is how often i comes next
    after j, n(j) how often any item does, p(i) the item's share of all interactions, and s is `smoothing`: after a rare
    item popularity counts more (Dirichlet smoothing; Rendle et al. 2010, doi 10.1145/1772690.1772773, have the chain
    without it as "MC").

    A user without items gets the most popular ones. It needs no training, and no content.
    """

    is_trained = False
    is_deterministic = True
    sequential = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        smoothing: Annotated[PositiveFloat, Doc("Weight of popularity, in transitions.")] = 1.0,
    ) -> None:
        super().__init__(graph)
        self.smoothing = smoothing

    def embed(self, features: Features) -> Transitions:
        """The transitions, sparse, and each user's last item."""
        sequences, n_items = self.graph.sequences, self.graph.n_items
        owners = torch.repeat_interleave(sequences.counts)
        follows = owners[1:] == owners[:-1]
        sources, targets = sequences.items[:-1][follows], sequences.items[1:][follows]
        pairs, counts = torch.unique(targets * n_items + sources, return_counts=True)
        totals = torch.bincount(sources, minlength=n_items).float() + self.smoothing
        values = counts / totals[pairs % n_items]
        similarity = csr(pairs // n_items, pairs % n_items, values, (n_items, n_items))
        popularity = torch.bincount(sequences.items, minlength=n_items).float() / max(1, len(sequences.items))
        empty = csr(pairs[:0], pairs[:0], values[:0], (self.graph.n_users, n_items))
        scorer = Transitions(empty, similarity, popularity, self.smoothing / totals)
        return scorer.of_sequences(sequences)
