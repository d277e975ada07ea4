"""How items pass through an encoder in training: modes, seeds, and where their vectors go."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Renewed", "in_mode", "seeded", "train_mode"]


class Renewed(torch.autograd.Function):
    """Writes vectors into a table's rows in place; the result is the table, its gradient goes to the vectors alone.

    Neither pass copies the table.
    """

    @staticmethod
    def forward(ctx: Any, vectors: Tensor, table: Tensor, rows: Tensor) -> Tensor:
        """The table with `vectors` in the given rows."""
        ctx.save_for_backward(rows)
        table.index_copy_(0, rows, vectors.detach())
        return table.detach()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """The gradient of the rows."""
        (rows,) = ctx.saved_tensors
        return gradients[0].index_select(0, rows), None, None


@contextmanager
def seeded(device: torch.device, seed: int) -> Iterator[None]:
    """Let what draws from the global generators (dropout) draw from a seed, and leave them as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Training or evaluation; afterwards every module is in the mode in which it was."""
    before = {one: one.training for one in module.modules()}
    train_mode(module, training)
    try:
        yield
    finally:
        for one, was_training in before.items():
            one.training = was_training


def train_mode(module: nn.Module, mode: bool) -> None:
    """Training or evaluation; batch norms keep their statistics in both."""
    module.train(mode)
    for one in module.modules():
        if isinstance(one, nn.modules.batchnorm._BatchNorm):
            one.eval()
