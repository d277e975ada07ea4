"""Rows of dense matrices, selected faster than by indexing."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BLOCK_BYTES = 2**24


def select_rows(matrix: Float[Tensor, "rows dim"], index: Int[Tensor, ...]) -> Float[Tensor, ...]:
    """`matrix[index]` by `index_select`, whose backward pass is several times faster than that of indexing."""
    return matrix.index_select(0, index.flatten()).view(*index.shape, matrix.shape[1])


def row_blocks(
    matrix: Float[Tensor, "rows dim"], index: Int[Tensor, " selected"]
) -> Iterator[Float[Tensor, "block dim"]]:
    """The rows `index` in consecutive blocks; on a CPU each is small enough for its memory to be reused.

    glibc allocates fresh pages for every tensor beyond 32 MB, and to zero these takes longer than to fill them.
    """
    bytes_per_row = matrix.shape[1] * matrix.element_size()
    size = _BLOCK_BYTES // bytes_per_row if matrix.device.type == "cpu" else len(index)
    for part in torch.split(index, max(size, 1)):
        yield select_rows(matrix, part)
