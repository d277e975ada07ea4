"""UserKNN: the items of the users with the most similar histories."""

from __future__ import annotations

from typing import Annotated, Literal, cast

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.types import Features, NonNegativeFloat, PositiveInt
from lmm4rec.nn.csr import csr
from lmm4rec.nn.graph import InteractionGraph, histories
from lmm4rec.nn.neighborhoods import UserNeighbors, interaction_matrix, largest_entries
from lmm4rec.recommenders.base import Recommender

__all__ = ["UserKNN"]

_SIMILAR_ITEMS = 50  # kept for each item, for the lists of similar items alone


class UserKNN(Recommender):
    """User-based neighborhood model (Herlocker et al. 1999, doi 10.1145/312624.312682), for positive-only data.

    score(u, i) = sum of s(u, v) over the `neighbors` users v most similar to u who interacted with i, where s is the
    cosine of the users' rows of the interaction matrix, shrunk, with weights w of the items:

    s(u, v) = sum over common items j of w_j² / (|u| · |v| + shrinkage),    |u|² = sum over the items j of u of w_j²

    - `weights = "none"`: w_j = 1.
    - `weights = "idf"`: w_j = log(|users| / |users of j|): rare items in common count more.

    Differs from the paper: there are no ratings, hence no means, and similarities are cosines instead of correlations.
    The neighbors of a user who was not in the training are found in the same way. Similar items are those with the
    largest cosines of their columns.
    """

    is_trained = False
    is_deterministic = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        neighbors: Annotated[PositiveInt, Doc("Most similar users whose items are scored.")] = 50,
        shrinkage: Annotated[NonNegativeFloat, Doc("Added to the denominator: short histories count less.")] = 0.0,
        weights: Annotated[Literal["none", "idf"], Doc("Weights of items in the similarity of users.")] = "none",
    ) -> None:
        super().__init__(graph)
        self.neighbors, self.shrinkage, self.weights = neighbors, shrinkage, weights

    def embed(self, features: Features) -> UserNeighbors:
        """The histories, each user's neighbors and each item's similar items, all sparse."""
        graph, interactions, device = self.graph, interaction_matrix(self.graph), self.graph.users.device
        item_weights = np.ones(graph.n_items, np.float32)
        if self.weights == "idf":
            item_weights = np.log(graph.n_users / np.maximum(graph.item_degrees.cpu().numpy(), 1)).astype(np.float32)
        weighted = sp.csr_array(interactions @ sp.diags_array(item_weights))
        nearest = csr(*_nearest_rows(weighted, self.neighbors, self.shrinkage), (graph.n_users, graph.n_users))
        sources, targets, values = _nearest_rows(interactions.T.tocsr(), _SIMILAR_ITEMS, 0.0)
        return UserNeighbors(
            histories(graph),
            csr(targets, sources, values, (graph.n_items, graph.n_items)).to(device),
            nearest.to(device),
            torch.from_numpy(item_weights).to(device),
            self.neighbors,
            self.shrinkage,
        )


def _nearest_rows(
    matrix: sp.csr_array, k: int, shrinkage: float
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Float[Tensor, " pairs"]]:
    """Pairs of a row and one of its `k` most similar rows, and the shrunk cosine of each pair."""
    norms = np.sqrt(matrix.multiply(matrix).sum(axis=1))

    def cosines(dots: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        return cast(np.ndarray, dots / np.maximum(norms[rows] * norms[columns] + shrinkage, 1e-12))

    return largest_entries(matrix, matrix.T.tocsr(), k, cosines)
