"""BPR: matrix factorization with a pairwise ranking loss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.types import Batch, Embeddings, Features, NonNegativeFloat, PositiveFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.losses import bpr_of_vectors, l2
from lmm4rec.nn.tables import normal_table, rows_of_tables
from lmm4rec.recommenders.base import Recommender

__all__ = ["BPR"]


class BPR(Recommender):
    """Matrix factorization under Bayesian personalized ranking (Rendle et al. 2009, arXiv 1205.2618).

    x(u, i) = w_u · h_i (sec. 4.3.1); loss: the mean of -log sigmoid(x(u, i) - x(u, j)) plus `l2_weight` times half
    the squared norms of the batch's vectors (BPR-Opt, sec. 4.1).

    Differs from the authors' code: mini-batches and Adam instead of single steps of gradient descent.
    """

    splits_batches = True
    shards_tables = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the user and item vectors.")] = 64,
        l2_weight: Annotated[NonNegativeFloat, Doc("Weight of the squared norms of a batch's vectors.")] = 1e-2,
        initial_std: Annotated[
            PositiveFloat, Doc("Standard deviation of the initial vectors; a small one ranks by popularity at first.")
        ] = 0.01,
    ) -> None:
        super().__init__(graph)
        self.l2_weight = l2_weight
        self.users = normal_table(graph.n_users, dim, generator, std=initial_std)
        self.items = normal_table(graph.n_items, dim, generator, std=initial_std)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`bpr` and `l2`."""
        users, positives, negatives = rows_of_tables(
            (self.users, batch.users), (self.items, batch.positives, batch.negatives)
        )
        return {
            "bpr": bpr_of_vectors(users, positives, negatives),
            "l2": self.l2_weight * l2(users, positives, negatives, batch=len(users)),
        }

    def embed(self, features: Features) -> Embeddings:
        """The two tables."""
        return Embeddings(self.users.all(), self.items.all(), parts={"id": slice(0, self.users.shape[1])})
