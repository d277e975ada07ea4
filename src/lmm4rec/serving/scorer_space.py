"""What both kinds of scorer can do beside scoring: grow, compare items, take in a person by history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.types import Embeddings, Neighbors, Scorer

BIAS = "bias"
"""The part of `Embeddings` in which all users have the same vector."""

CONTENT = "content"
"""The part in which new items meet people's tastes by content (`newcomers.Profile`)."""

NEW = "new"
"""The share of a new item's score that any new item gets from the person, whatever its content."""

JOINT = "joint"
"""The part beside it of a model that does not tell its parts apart."""


@dataclass(frozen=True)
class Scores:
    """Scores that are known already, a row for each user; a scorer for one ranking."""

    values: Float[Tensor, "users items"]

    @property
    def n_users(self) -> int:
        """Rows."""
        return self.values.shape[0]

    @property
    def n_items(self) -> int:
        """Columns."""
        return self.values.shape[1]

    def scores(self, users: Int[Tensor, " batch"]) -> Float[Tensor, "batch items"]:
        """The rows of the given users."""
        return self.values[users]


def detached(scorer: Scorer) -> Scorer:
    """The scorer without the graph of gradients that its vectors may come from."""
    if isinstance(scorer, Embeddings):
        return Embeddings(scorer.users.detach(), scorer.items.detach(), parts=scorer.parts)
    return scorer


def unit_vectors(embeddings: Embeddings) -> Float[Tensor, "items dim"]:
    """The item vectors without the bias and what new items alone have, scaled to length 1."""
    compared = torch.ones(embeddings.items.shape[1], dtype=torch.bool)
    for part in (BIAS, CONTENT):
        compared[embeddings.parts.get(part, slice(0, 0))] = False
    return F.normalize(embeddings.items[:, compared], dim=1)


def widened(scorer: Embeddings, people: Float[Tensor, "users columns"]) -> Embeddings:
    """The scorer with columns more, in which its items have zeros: as it ranks now, and ready for `Profile`."""
    dim, columns = scorer.users.shape[1], people.shape[1]
    parts = {**(scorer.parts or {JOINT: slice(0, dim)}), CONTENT: slice(dim, dim + columns)}
    return Embeddings(torch.cat([scorer.users, people], dim=1), F.pad(scorer.items, (0, columns)), parts=parts)


def narrowed(scorer: Embeddings) -> Embeddings:
    """The scorer without the columns that `widened` added."""
    if CONTENT not in scorer.parts:
        return scorer
    dim = scorer.parts[CONTENT].start
    parts = {part: columns for part, columns in scorer.parts.items() if part not in (CONTENT, JOINT)}
    return Embeddings(scorer.users[:, :dim], scorer.items[:, :dim], parts=parts)


def from_neighbors(scorer: Neighbors, rows: Int64[np.ndarray, " history"]) -> Float[Tensor, " items"]:
    """The scores of a person whom the model has never seen, from the rows of what they like.

    An item without a column (an added one) stands for the items that it is like.
    """
    at, known = torch.from_numpy(rows), scorer.similarity.shape[1]
    history = torch.zeros(known)
    history[at[at < known]] = 1.0
    history += F.normalize(_dense_rows(scorer.similarity, at[at >= known]), p=1, dim=1).sum(0)
    return (scorer.similarity @ history[:, None])[:, 0]


def grown(scorer: Scorer, vectors: Tensor) -> Scorer:
    """The scorer with more items, given by their vectors (for `Neighbors`: their similarities to what was seen)."""
    if isinstance(scorer, Embeddings):
        return Embeddings(scorer.users, torch.cat([scorer.items, vectors]), parts=scorer.parts)
    assert isinstance(scorer, Neighbors)
    return Neighbors(scorer.seen, _stacked(scorer.similarity, vectors))


def stored_similarity(similarity: Tensor, at: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen items"]:
    """The columns of the given items; of an added one, which has none, its row."""
    items, known = similarity.shape
    found = torch.zeros(len(at), items)
    old, new = (at < known).nonzero()[:, 0], (at >= known).nonzero()[:, 0]
    chosen = torch.zeros(known, len(old))
    chosen[at[old], torch.arange(len(old))] = 1.0
    found[old] = (similarity @ chosen).T
    found[new, :known] = _dense_rows(similarity, at[new])
    return found


def _dense_rows(matrix: Tensor, at: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen columns"]:
    """Rows of a CSR matrix as a dense one."""
    start, dense = matrix.crow_indices(), torch.zeros(len(at), matrix.shape[1])
    for row, chosen in enumerate(at.tolist()):
        entries = slice(int(start[chosen]), int(start[chosen + 1]))
        dense[row, matrix.col_indices()[entries].long()] = matrix.values()[entries]
    return dense


def _stacked(above: Tensor, below: Tensor) -> Tensor:
    """Two CSR matrices, one above the other."""
    below = below if below.layout == torch.sparse_csr else below.to_sparse_csr()
    crow = torch.cat([above.crow_indices(), below.crow_indices()[1:] + above.crow_indices()[-1]])
    columns = torch.cat([above.col_indices(), below.col_indices()])
    values = torch.cat([above.values(), below.values()])
    shape = (above.shape[0] + below.shape[0], above.shape[1])
    return torch.sparse_csr_tensor(crow, columns, values, shape, check_invariants=False)
