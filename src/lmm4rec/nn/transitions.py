"""A scorer by the item that a user has interacted with last: transitions from item to item."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.sequences import Sequences
from lmm4rec.core.types import Neighbors
from lmm4rec.nn.csr import csr, dense_rows


@dataclass(frozen=True)
class Transitions(Neighbors):
    """score(u, i) = similarity[i, j] + backoff[j] · popularity[i] for the user's last item j.

    `seen` has 1 at the last item; at several with weights that add up to 1 where it is an added item, which counts as
    the items that it is similar to. A user without items has the items' popularity as scores.
    """

    popularity: Float[Tensor, " items"]  # of the items of the training; 0 for added ones
    backoff: Float[Tensor, " items"]

    def scores(self, users: Int[Tensor, " batch"]) -> Float[Tensor, "batch items"]:
        """The score of every item for each of the given users."""
        last = dense_rows(self.seen, users)
        return self.history_scores(last.T).T

    def history_scores(self, history: Float[Tensor, "items batch"]) -> Float[Tensor, "items_and_added batch"]:
        """The scores of every item for weights of last items, one in each column."""
        popularity = F.pad(self.popularity, (0, self.n_items - len(self.popularity)))
        return self.similarity @ history + popularity[:, None] * (1 - (1 - self.backoff) @ history)

    def of_sequences(self, sequences: Sequences) -> Transitions:
        """The same transitions for users with these sequences."""
        return replace(self, seen=self.last_items(sequences))

    def last_items(self, sequences: Sequences) -> Tensor:
        """`seen` of the users with these sequences."""
        ends, known = sequences.counts.cumsum(0), self.similarity.shape[1]
        users = sequences.counts.nonzero()[:, 0]
        items = sequences.items[ends[users] - 1]
        is_new = items >= known
        weights = F.normalize(dense_rows(self.similarity, items[is_new]), p=1, dim=1)
        places, columns = weights.nonzero(as_tuple=True)
        rows = torch.cat([users[~is_new], users[is_new][places]])
        values = torch.cat([weights.new_ones(int((~is_new).sum())), weights[places, columns]])
        return csr(rows, torch.cat([items[~is_new], columns]), values, (len(sequences), known))
