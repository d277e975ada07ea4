"""RP3beta: three steps of a random walk over the interaction graph; P3alpha where beta is 0."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import scipy.sparse as sp
import torch
from typing_extensions import Doc

from lmm4rec.core.types import Features, Neighbors, NonNegativeFloat, PositiveInt
from lmm4rec.nn.csr import csr
from lmm4rec.nn.graph import InteractionGraph, histories
from lmm4rec.nn.neighborhoods import interaction_matrix, largest_entries
from lmm4rec.recommenders.base import Recommender

__all__ = ["RP3beta"]


class RP3beta(Recommender):
    """Random walk of three steps, with popular items ranked lower (Paudel et al. 2017, doi 10.1145/2955101).

    A walk from user u goes to an item j of u, to a user v of j, to an item i of v. With transition probabilities
    p(j → v) = 1 / |users of j| and p(v → i) = 1 / |items of v|, each raised to the power α:

    score(u, i) = sum over the items j of u of w(j, i),
    w(j, i) = sum over v of p(j → v)^α p(v → i)^α / |users of i|^β

    With `beta` = 0 it is P3α (Cooper et al. 2014, doi 10.1145/2567948.2579244). The first step, from u to each of u's
    items, has the same probability for all of them and leaves the ranking as it is.

    Differs from the authors' code: w is computed exactly, not by sampled walks, and an item j of the history scores
    only the `neighbors` items i of highest w(j, i).
    """

    is_trained = False
    is_deterministic = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        alpha: Annotated[NonNegativeFloat, Doc("Power of the transition probabilities.")] = 1.0,
        beta: Annotated[NonNegativeFloat, Doc("Power of an item's popularity that divides its score; 0: P3α.")] = 0.4,
        neighbors: Annotated[PositiveInt, Doc("Items to which an item of a history gives a score.")] = 500,
    ) -> None:
        super().__init__(graph)
        self.alpha, self.beta, self.neighbors = alpha, beta, neighbors

    def embed(self, features: Features) -> Neighbors:
        """The users' histories and w, transposed, both sparse."""
        graph, interactions = self.graph, interaction_matrix(self.graph)
        user_degrees, item_degrees = (
            np.maximum(degrees.cpu().numpy(), 1).astype(np.float32)
            for degrees in (graph.user_degrees, graph.item_degrees)
        )
        from_items = sp.diags_array(item_degrees**-self.alpha).tocsr() @ interactions.T.tocsr()
        from_users = sp.diags_array(user_degrees**-self.alpha).tocsr() @ interactions
        divisors = item_degrees**self.beta
        sources, targets, values = largest_entries(
            from_items, from_users, self.neighbors, lambda w, _, columns: w / divisors[columns]
        )
        similarity = csr(targets, sources, values, (graph.n_items, graph.n_items)).to(graph.users.device)
        return Neighbors(histories(graph), similarity)
