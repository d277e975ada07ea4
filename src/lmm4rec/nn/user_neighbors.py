"""A scorer by similar users: the items with which the users of the most similar histories have interacted."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.matrices import highest
from lmm4rec.core.types import Neighbors
from lmm4rec.nn.sparse import dense_rows, entries_of


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
        """The sum over the neighbors who interacted with an item of their similarities, for every item."""
        rows, entries = entries_of(self.nearest, users)
        neighbors, similarities = self.nearest.col_indices()[entries].long(), self.nearest.values()[entries]
        return self._join(dense_rows(self.seen, users), rows, neighbors, similarities)

    def history_scores(self, history: Float[Tensor, "items batch"]) -> Float[Tensor, "items_and_added batch"]:
        """The scores of every item for any histories, one a column, with 1 at the items of the history."""
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
        """The scores of the items by pairs of a row and a neighbor, and those of added items by the history."""
        pairs, entries = entries_of(self.seen, neighbors)
        known = history.new_zeros(history.shape)
        places = rows[pairs] * known.shape[1] + self.seen.col_indices()[entries].long()
        known.view(-1).index_add_(0, places, similarities[pairs])
        added = torch.arange(known.shape[1], self.n_items, device=known.device)
        return torch.cat([known, history @ dense_rows(self.similarity, added).T], dim=1) if len(added) else known
