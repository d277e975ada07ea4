"""EASE: a linear model from each item to all others, in closed form."""

from __future__ import annotations

from typing import Annotated

import numpy as np
import scipy.sparse as sp
import torch
from typing_extensions import Doc

from lmm4rec.core.types import Features, Neighbors, PositiveFloat
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.sparse import csr
from lmm4rec.recommenders.base import Recommender

__all__ = ["EASE"]


class EASE(Recommender):
    """Embarrassingly shallow autoencoder (Steck 2019, arXiv 1905.03375).

    score(u, i) = sum over the items j of user u of B[j, i], where B minimizes |X - X B|² + λ |B|² with a diagonal of 0
    for the interaction matrix X (eq. 4 to 8):

    P = (XᵀX + λ I)⁻¹,    B[j, i] = -P[j, i] / P[i, i] for j ≠ i,    B[i, i] = 0

    λ is `l2_weight`. The inverse is computed in float64 and B kept in float32: both are dense, items × items (20,000
    items take 3.2 GB and 1.6 GB). No content has a part in it.
    """

    is_trained = False

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        l2_weight: Annotated[PositiveFloat, Doc("Weight of the squared norms; larger for sparser data.")] = 100.0,
    ) -> None:
        super().__init__(graph)
        self.l2_weight = l2_weight

    def embed(self, features: Features) -> Neighbors:
        """The users' histories and B, transposed."""
        graph = self.graph
        entries = (np.ones(len(graph.users)), (graph.users.cpu().numpy(), graph.items.cpu().numpy()))
        interactions = sp.csr_array(entries, shape=(graph.n_users, graph.n_items))
        gram = (interactions.T @ interactions).toarray()
        np.fill_diagonal(gram, gram.diagonal() + self.l2_weight)
        inverse = np.linalg.inv(gram)
        weights = -inverse / inverse.diagonal()[:, None]  # P is symmetric: row i holds B[:, i]
        np.fill_diagonal(weights, 0.0)
        ones = torch.ones(len(graph.users), device=graph.users.device)
        seen = csr(graph.users, graph.items, ones, (graph.n_users, graph.n_items))
        return Neighbors(seen, torch.from_numpy(weights).float().to(graph.users.device))
