"""ELSA: a linear autoencoder of low rank, for catalogs whose items × items matrix does not fit into memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.matrices import positions_in_runs
from lmm4rec.core.types import Batch, Embeddings, Features, PositiveInt
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.tables import xavier_table
from lmm4rec.nn.unit_vectors import unit_vectors
from lmm4rec.recommenders.base import Recommender

__all__ = ["ELSA"]


class ELSA(Recommender):
    """Scalable linear shallow autoencoder (Vančura et al. 2022, doi 10.1145/3523227.3551482).

    score(u, ·) = x (A Aᵀ - I) for the user's row x of the interaction matrix, with unit rows A [items, dim], so that
    A Aᵀ - I has a diagonal of 0, as the weights of EASE. The loss of a user is |ŷ / |ŷ| - x / |x||², ŷ = x (A Aᵀ - I).

    With z = x A the loss needs no row of all items: it is 2 - 2 (|z|² - |x|²) / (|x| |ŷ|), where
    |ŷ|² = zᵀ (Aᵀ A) z - 2 |z|² + |x|². Memory is items × dim, and for a batch of b users b × dim.

    The vectors are z of the users and A of the items. The term -x, left out of them, changes the scores of items in the
    user's history alone.

    Differs from the authors' code: the loss is the sum over items, not the mean (a constant factor), and the optimizer
    is that of [train] (theirs is Nadam with a learning rate of 0.1).
    """

    user_batches = True

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the item vectors: the rank of the weights.")] = 256,
    ) -> None:
        super().__init__(graph)
        self.items = xavier_table(graph.n_items, dim, generator)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`nmse`, the mean over the batch's users."""
        items = unit_vectors(self.items.all())
        z, sizes = self._histories(items, batch.users)
        squares = z.square().sum(1)
        length = ((z @ _products(items) * z).sum(1) - 2 * squares + sizes).clamp(min=1e-12).sqrt()
        return {"nmse": (2 - 2 * (squares - sizes) / (length * sizes.sqrt().clamp(min=1e-12))).mean()}

    def embed(self, features: Features) -> Embeddings:
        """X A and A."""
        items = unit_vectors(self.items.all())
        users, _ = self._histories(items, torch.arange(self.graph.n_users, device=items.device))
        return Embeddings(users, items, parts={"id": slice(0, items.shape[1])})

    def _histories(
        self, items: Float[Tensor, "items dim"], users: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch dim"], Int[Tensor, " batch"]]:
        """The sum of the vectors of each user's items, and their number; the graph's edges are ordered by user."""
        degrees = self.graph.user_degrees
        counts = degrees[users]
        _, edges = positions_in_runs((degrees.cumsum(0) - degrees)[users], counts)
        return F.embedding_bag(self.graph.items[edges], items, counts.cumsum(0) - counts, mode="sum"), counts


def _products(items: Float[Tensor, "items dim"]) -> Float[Tensor, "dim dim"]:
    """Aᵀ A for the item vectors A."""
    return cast(Tensor, _Products.apply(items))  # type: ignore[no-untyped-call]


class _Products(torch.autograd.Function):
    """With g the gradient of Aᵀ A, that of A is A (g + gᵀ): one product, where torch computes A g and A gᵀ apart."""

    @staticmethod
    def forward(ctx: Any, items: Tensor) -> Tensor:
        ctx.save_for_backward(items)
        return items.T @ items

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (items,) = ctx.saved_tensors
        return items @ (gradients[0] + gradients[0].T)
