"""Neighborhoods: the largest entries of products of sparse interaction matrices, and a scorer by similar users."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.matrices import highest
from lmm4rec.core.types import Neighbors
from lmm4rec.nn.csr import dense_rows, entries_of
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


@dataclass(frozen=True)
class UserNeighbors(Neighbors):
    """A scorer of known users by their stored neighbors, and of any history by its most similar known users.

    The item-item matrix `similarity` is used where items are compared (similar items, explanations), and its rows of
    added items score these from the history, as for any `Neighbors`.
    """

    nearest: Tensor  # [users, users], sparse CSR: the similarities of each user's neighbors
    item_weights: Float[Tensor, " items"]  # of the items in the similarity of users
    neighbors: int
    shrinkage: float

    def scores(self, users: Int[Tensor, " batch"]) -> Float[Tensor, "batch items"]:
        """For every item, the sum of the similarities of those neighbors who interacted with it."""
        rows, entries = entries_of(self.nearest, users)
        neighbors, similarities = self.nearest.col_indices()[entries].long(), self.nearest.values()[entries]
        return self._join(dense_rows(self.seen, users), rows, neighbors, similarities)

    def history_scores(self, history: Float[Tensor, "items batch"]) -> Float[Tensor, "items_and_added batch"]:
        """The scores of every item for any histories, one in each column, with 1 at its items and 0 elsewhere."""
        squares = self.item_weights.square()
        norms = (self.seen @ squares[:, None]).sqrt() * (squares @ history).sqrt()
        similarity = self.seen @ (squares[:, None] * history) / (norms + self.shrinkage).clamp(min=1e-12)
        values, neighbors = highest(similarity.T.contiguous(), min(self.neighbors, self.n_users))
        rows = torch.arange(len(values), device=values.device).repeat_interleave(values.shape[1])
        return self._join(history.T, rows, neighbors.flatten(), values.flatten()).T

    def _join(
        self,
        history: Float[Tensor, "batch items"],
        rows: Int[Tensor, " pairs"],
        neighbors: Int[Tensor, " pairs"],
        similarities: Float[Tensor, " pairs"],
    ) -> Float[Tensor, "batch items_and_added"]:
        """The scores of known items from pairs of a row and a neighbor, then those of added items from the history."""
        pairs, entries = entries_of(self.seen, neighbors)
        known = history.new_zeros(history.shape)
        places = rows[pairs] * known.shape[1] + self.seen.col_indices()[entries].long()
        known.view(-1).index_add_(0, places, similarities[pairs])
        added = torch.arange(known.shape[1], self.n_items, device=known.device)
        return torch.cat([known, history @ dense_rows(self.similarity, added).T], dim=1) if len(added) else known
