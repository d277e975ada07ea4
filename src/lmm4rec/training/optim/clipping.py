"""The norm of all gradients, and its bound."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor, nn


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> Float[Tensor, ""]:
    """The norm of all gradients as one vector; where it exceeds `max_norm` they are scaled down to that (0: never)."""
    gradients = [_values(weight) for weight in parameters if weight.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm:
        scale = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale)
    return norm


def _values(weight: nn.Parameter) -> Tensor:
    """The numbers of a gradient; a sparse one is coalesced, so that each row occurs once."""
    assert weight.grad is not None
    if not weight.grad.is_sparse:
        return weight.grad
    weight.grad = weight.grad.coalesce()
    return weight.grad.values()
