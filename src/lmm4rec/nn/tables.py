"""Trained tables, drawn from a passed generator."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def normal_table(rows: int, dim: int, generator: torch.Generator, *, std: float) -> nn.Parameter:
    """A trained matrix [rows, dim] drawn from a normal distribution around 0."""
    return nn.Parameter(torch.randn(rows, dim, generator=generator) * std)


def xavier_table(rows: int, dim: int, generator: torch.Generator) -> nn.Parameter:
    """A trained linear map [rows -> dim] with variance 2 / (rows + dim) (Glorot and Bengio 2010)."""
    return normal_table(rows, dim, generator, std=(2.0 / (rows + dim)) ** 0.5)


def rows(table: Float[Tensor, "rows dim"], index: Int[Tensor, ...]) -> Float[Tensor, ...]:
    """`table[index]`, by `index_select`: its backward pass is several times faster than that of indexing."""
    return table.index_select(0, index.flatten()).view(*index.shape, table.shape[1])
