"""DropoutNet: networks that reproduce a model's scores, also for items without a vector."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.coldstart.methods.base import BatchPairs, ColdStartMethod, TanhLayers, standardized
from lmm4rec.core.matrices import dot_each
from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, PositiveInt
from lmm4rec.nn.graph import InteractionGraph

__all__ = ["DropoutNet"]


class DropoutNet(ColdStartMethod):
    """DropoutNet (Volkovs, Yu, Poutanen 2017, "DropoutNet: Addressing Cold Start in Recommender Systems", NIPS).

    score(u, i) = f_U(U_u) · f_V([V_i, x_i]), trained to reproduce the scores of the trained vectors U and V (eq. 2):

    L = mean over pairs (U_u · V_i - f_U(U_u) · f_V([V_i, x_i]))²

    where V_i is 0 for a share `dropout` of the items of a step (eq. 3), and for items without interactions. f are
    networks with one hidden layer of tanh and batch normalization; U and V go in standardized by column.

    Differs from the authors' code: one hidden layer in the place of two; the pairs are a user's items and as many
    uniform others in the place of the user's best and random ones by the trained scores; users have no content, so they
    are never dropped; Adam.
    """

    def __init__(
        self,
        graph: InteractionGraph,
        features: Features,
        generator: torch.Generator,
        trained: Embeddings,
        *,
        dim: Annotated[PositiveInt, Doc("Width of the vectors.")] = 64,
        hidden: Annotated[PositiveInt, Doc("Width of the hidden layers.")] = 200,
        dropout: Annotated[Fraction, Doc("Share of the items of a step whose vector is 0.")] = 0.5,
    ) -> None:
        super().__init__(graph, features, trained)
        width = trained.items.shape[1]
        self.users = TanhLayers(width, hidden, dim, generator)
        self.items = TanhLayers(width + self.known.shape[1], hidden, dim, generator)
        self.dropout = dropout
        self.register_buffer("user_inputs", standardized(self.trained_users), persistent=False)
        self.register_buffer("item_inputs", standardized(self.trained_items), persistent=False)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`reproduction`: the squared difference of scores."""
        pairs = BatchPairs.of(batch)
        kept = (torch.rand(len(pairs.items), 1, generator=generator) >= self.dropout).to(self.known.device)
        inputs = torch.cat([self.get_buffer("item_inputs")[pairs.items] * kept, self.known[pairs.items]], dim=1)
        scores = dot_each(*pairs.vectors(self.user_vectors(pairs.users), self.items(inputs)))
        target = dot_each(self.trained_users[batch.users], self.trained_items[pairs.both])
        return {"reproduction": (target - scores).square().mean()}

    def user_vectors(self, users: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen dim"]:
        """f_U(U_u)."""
        return cast(Tensor, self.users(self.get_buffer("user_inputs")[users]))

    def item_vectors(self, content: Float[Tensor, "items axes"]) -> Float[Tensor, "items dim"]:
        """f_V([0, x_i])."""
        zeros = content.new_zeros(len(content), self.trained_items.shape[1])
        return cast(Tensor, self.items(torch.cat([zeros, content], dim=1)))
