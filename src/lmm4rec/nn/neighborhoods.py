"""Neighborhoods in the interaction graph: the largest entries of products of sparse matrices."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.nn.graph import InteractionGraph

_ROWS = 256  # of the product in a block: with 63,001 columns at most 0.3 GB

Rescale: TypeAlias = Callable[
    [Float[np.ndarray, " n"], Int[np.ndarray, " n"], Int[np.ndarray, " n"]], Float[np.ndarray, " n"]
]
"""New values of entries from their values, rows and columns."""


def interaction_matrix(graph: InteractionGraph) -> sp.csr_array:
    """The interactions as ones in a matrix [users, items]."""
    entries = (np.ones(len(graph.users), np.float32), (graph.users.cpu().numpy(), graph.items.cpu().numpy()))
    return sp.csr_array(entries, shape=(graph.n_users, graph.n_items))


def largest_entries(
    left: sp.csr_array, right: sp.csr_array, k: int, rescale: Rescale
) -> tuple[Int[Tensor, " entries"], Int[Tensor, " entries"], Float[Tensor, " entries"]]:
    """Rows, columns and values of the `k` largest positive entries in each row of left · right, off the diagonal.

    Entries are compared after `rescale`. The product is computed in blocks of rows and kept sparse. Which of equal
    entries at the k-th place are kept is undefined.
    """
    blocks = [_largest_of_block(left, right, k, rescale, start) for start in range(0, left.shape[0], _ROWS)]
    rows, columns, values = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    return rows, columns, values


def _largest_of_block(
    left: sp.csr_array, right: sp.csr_array, k: int, rescale: Rescale, start: int
) -> tuple[Tensor, Tensor, Tensor]:
    product = left[start : start + _ROWS] @ right
    counts, columns = np.diff(product.indptr), product.indices
    rows = np.repeat(np.arange(len(counts)), counts)
    values = np.where(rows + start == columns, 0.0, rescale(product.data, rows + start, columns))
    width = int(counts.max())
    places = np.arange(len(rows)) - np.repeat(product.indptr[:-1], counts)
    padded = np.zeros((len(counts), width), np.float32)
    padded[rows, places] = values
    top = torch.from_numpy(padded).topk(min(k, width), dim=1)
    kept_rows, kept_places = (top.values > 0).nonzero(as_tuple=True)
    entries = torch.from_numpy(product.indptr[:-1]).long()[kept_rows] + top.indices[kept_rows, kept_places]
    return kept_rows + start, torch.from_numpy(columns).long()[entries], top.values[kept_rows, kept_places]
