"""Trained tables, drawn from a passed generator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

_BLOCK_BYTES = 2**24
_SPARSE = ContextVar("lmm4rec_sparse", default=frozenset[int]())


def normal_table(rows: int, dim: int, generator: torch.Generator, *, std: float) -> nn.Parameter:
    """A trained matrix [rows, dim] drawn from a normal distribution around 0."""
    return nn.Parameter(torch.randn(rows, dim, generator=generator) * std)


def xavier_table(rows: int, dim: int, generator: torch.Generator) -> nn.Parameter:
    """A trained linear map [rows -> dim] with variance 2 / (rows + dim) (Glorot and Bengio 2010)."""
    return normal_table(rows, dim, generator, std=(2.0 / (rows + dim)) ** 0.5)


def node_table(users: int, items: int, dim: int, generator: torch.Generator) -> nn.Parameter:
    """A trained matrix [users + items, dim]: a Xavier table of users above one of items."""
    return nn.Parameter(torch.cat([xavier_table(count, dim, generator).detach() for count in (users, items)]))


def rows(table: Float[Tensor, "rows dim"], index: Int[Tensor, ...]) -> Float[Tensor, ...]:
    """`table[index]`, by `index_select`: its backward pass is several times faster than that of indexing."""
    if id(table) in _SPARSE.get():
        return functional.embedding(index, table, sparse=True)
    return table.index_select(0, index.flatten()).view(*index.shape, table.shape[1])


@contextmanager
def sparse_gradients(tables: frozenset[int]) -> Iterator[None]:
    """In the block, `rows` of a table with one of these ids has a sparse gradient, which costs what the rows cost."""
    before = _SPARSE.set(tables)
    try:
        yield
    finally:
        _SPARSE.reset(before)


def row_blocks(table: Float[Tensor, "rows dim"], index: Int[Tensor, " chosen"]) -> Iterator[Float[Tensor, "block dim"]]:
    """`rows(table, index)` in consecutive blocks; on a CPU each is small enough for its memory to be used again.

    Beyond 32 MB (glibc's bound) every allocation is of fresh pages, and to zero these takes longer than to fill them.
    """
    bytes_a_row = table.shape[1] * table.element_size()
    size = _BLOCK_BYTES // bytes_a_row if table.device.type == "cpu" else len(index)
    for part in torch.split(index, max(size, 1)):
        yield rows(table, part)


class Affine(nn.Module):
    """A trained map x W + b, with W drawn from the generator as in `xavier_table` and b zero."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = xavier_table(inputs, outputs, generator)
        self.offset = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        """The map of each row."""
        return torch.nn.functional.linear(x, self.weight.T, self.offset)


def project(
    features: Float[Tensor, "items width"], weight: Float[Tensor, "width dim"], offset: Float[Tensor, " dim"]
) -> Float[Tensor, "items dim"]:
    """The features, each item's scaled to length 1, times a matrix plus an offset; 0 where an item lacks the modality.

    The scaling follows the product, where a row is `dim` numbers instead of thousands.
    """
    lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True)
    return torch.where(lengths > 0, (features @ weight) / lengths.clamp(min=1e-12) + offset, 0.0)
