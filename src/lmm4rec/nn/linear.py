"""Trained linear maps, drawn from a passed generator."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def xavier_weight(inputs: int, outputs: int, generator: torch.Generator) -> nn.Parameter:
    """A matrix [inputs, outputs] drawn from N(0, 2 / (inputs + outputs)) (Glorot and Bengio 2010)."""
    return nn.Parameter(torch.randn(inputs, outputs, generator=generator) * (2.0 / (inputs + outputs)) ** 0.5)


class Affine(nn.Module):
    """The map x W + b, with W from `xavier_weight` and b zero at first."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = xavier_weight(inputs, outputs, generator)
        self.offset = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        """The map of each row."""
        return F.linear(x, self.weight.T, self.offset)


def project(
    features: Float[Tensor, "items width"], weight: Float[Tensor, "width dim"], offset: Float[Tensor, " dim"]
) -> Float[Tensor, "items dim"]:
    """x / |x| · weight + offset for each item's features x; zeros for an item that lacks the modality.

    The product is scaled instead of the features: a row of it is `dim` numbers instead of thousands.
    """
    lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return torch.where(lengths > 0, (features @ weight) / lengths.clamp(min=1e-12) + offset, 0.0)
