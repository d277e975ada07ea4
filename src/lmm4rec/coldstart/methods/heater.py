"""Heater: a mixture of experts from content to a model's vectors, and networks on either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.coldstart.methods.base import BatchPairs, ColdStartMethod, TanhLayers, standardized
from lmm4rec.core.matrices import dot_each
from lmm4rec.core.types import Batch, Embeddings, Features, Fraction, NonNegativeFloat, PositiveInt
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.projections import Affine

__all__ = ["Heater"]


class Heater(ColdStartMethod):
    """Heater (Zhu, Sefati, Saadatpanah, Caverlee 2020, doi 10.1145/3397271.3401178).

    Content becomes a vector by a mixture of experts E, which is held close to the trained one:

    g(x) = sum over e of tanh(a_e · x + b_e) tanh(A_e x + c_e),    S = mean over items |g(x_i) - V_i|² / dim

    score(u, i) = f_U(U_u) · f_V(z_i), where z_i is g(x_i) for a share `random` of the items of a step and V_i for the
    others (randomized training); it is g(x_i) for items without interactions. f are networks with one hidden layer.

    L = mean over pairs (score(u, i) - y_ui)² + `similarity_weight` S,    y = 1 for interactions and 0 for others

    Differs from the authors' code: U and V are standardized by column, and g has no tanh around the sum, which could
    not reach them; S is a mean, not a sum; users have no content; no weight decay; Adam.
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
        experts: Annotated[PositiveInt, Doc("Experts in the mixture.")] = 5,
        random: Annotated[Fraction, Doc("Share of the items of a step whose vector comes from content.")] = 0.5,
        similarity_weight: Annotated[NonNegativeFloat, Doc("Weight of the distance to the trained vectors.")] = 0.1,
    ) -> None:
        super().__init__(graph, features, trained)
        width, axes = trained.items.shape[1], self.known.shape[1]
        self.gate, self.experts = Affine(axes, experts, generator), Affine(axes, experts * width, generator)
        for layer in (self.gate, self.experts):  # as the authors do: experts that begin large stay noise
            nn.init.normal_(layer.weight, std=0.01, generator=generator)
        self.users, self.items = (TanhLayers(width, hidden, dim, generator) for _ in range(2))
        self.random, self.similarity_weight = random, similarity_weight
        self.register_buffer("user_inputs", standardized(self.trained_users), persistent=False)
        self.register_buffer("item_inputs", standardized(self.trained_items), persistent=False)

    def losses(self, batch: Batch, features: Features, generator: torch.Generator) -> Mapping[str, Float[Tensor, ""]]:
        """`ranking` (squared errors) and `similarity` (S, weighted)."""
        pairs = BatchPairs.of(batch)
        trained, by_content = self.get_buffer("item_inputs")[pairs.items], self.mixture(self.known[pairs.items])
        from_content = (torch.rand(len(pairs.items), 1, generator=generator) < self.random).to(self.known.device)
        vectors = self.items(torch.where(from_content, by_content, trained))
        scores = dot_each(*pairs.vectors(self.user_vectors(pairs.users), vectors))
        observed = torch.zeros_like(scores)
        observed[:, 0] = 1.0
        distance = (by_content - trained).square().mean()
        return {"ranking": (scores - observed).square().mean(), "similarity": self.similarity_weight * distance}

    def mixture(self, content: Float[Tensor, "items axes"]) -> Float[Tensor, "items width"]:
        """g(x)."""
        gates, outputs = torch.tanh(self.gate(content)), torch.tanh(self.experts(content))
        return (gates[:, :, None] * outputs.view(len(content), gates.shape[1], -1)).sum(1)

    def user_vectors(self, users: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen dim"]:
        """f_U(U_u)."""
        return cast(Tensor, self.users(self.get_buffer("user_inputs")[users]))

    def item_vectors(self, content: Float[Tensor, "items axes"]) -> Float[Tensor, "items dim"]:
        """f_V(g(x_i))."""
        return cast(Tensor, self.items(self.mixture(content)))
