"""SoftmaxTower: a linear map from content to item vectors, trained with the full softmax over all items."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.coldstart.methods.base import ColdStartMethod
from lmm4rec.core.types import Batch, Embeddings, Features, PositiveInt
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.projections import xavier_weight

__all__ = ["SoftmaxTower"]


class SoftmaxTower(ColdStartMethod):
    """A linear item tower beside free user vectors p (Yi et al. 2019, doi 10.1145/3298689.3346996, unsampled).

    score(u, i) = p_u · W x_i,    L = - mean over pairs (u, i) of log softmax over all items j of score(u, j) at i

    It does not use the trained vectors. Its regularization is the weight decay of AdamW.
    """

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        trained: Embeddings,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the vectors.")] = 64,
    ) -> None:
        super().__init__(graph, features, trained)
        self.users = nn.Parameter(0.05 * torch.randn(graph.n_users, dim, generator=generator))
        self.map = xavier_weight(self.known.shape[1], dim, generator)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`softmax`; the sampled negatives are not used."""
        users, place = torch.unique(batch.users, return_inverse=True)
        items = torch.unique(self.graph.items)  # those held out of the graph are no alternatives
        scores = self.user_vectors(users) @ self.item_vectors(self.known[items]).T
        at = torch.searchsorted(items, batch.positives)
        return {"softmax": (scores.logsumexp(1)[place] - scores[place, at]).mean()}

    def user_vectors(self, users: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen dim"]:
        """p."""
        return self.users[users]

    def item_vectors(self, content: Float[Tensor, "items axes"]) -> Float[Tensor, "items dim"]:
        """W x."""
        return content @ self.map
