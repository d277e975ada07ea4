"""Operations on both kinds of scorer: new items, other users, and the similarity of items."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.coldstart.content_profile import CONTENT
from lmm4rec.core.types import Embeddings, Neighbors, Scorer
from lmm4rec.nn.csr import beta_accepted, csr_matrix, dense_rows, entries_of
from lmm4rec.nn.neighborhoods import UserNeighbors

BIAS = "bias"
"""The part of `Embeddings` in which all users have the same vector."""

NEW = "new"
"""The summand of a new item's score that is the same for all new items, whatever their content."""


@dataclass(frozen=True)
class ComputedScores:
    """A scorer whose scores are computed already, a row for each user."""

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


def unit_vectors(embeddings: Embeddings) -> Float[Tensor, "items dim"]:
    """The item vectors without the bias and the profile columns of new items, scaled to length 1."""
    compared = torch.ones(embeddings.items.shape[1], dtype=torch.bool)
    for part in (BIAS, CONTENT):
        compared[embeddings.parts.get(part, slice(0, 0))] = False
    return F.normalize(embeddings.items[:, compared], dim=1)


def with_items(scorer: Scorer, vectors: Tensor) -> Scorer:
    """The scorer with more items of these vectors (of `Neighbors`: similarities to the items of the training)."""
    if isinstance(scorer, Embeddings):
        return replace(scorer, items=torch.cat([scorer.items, vectors]))
    assert isinstance(scorer, Neighbors)
    return replace(scorer, similarity=_concatenated(scorer.similarity, vectors))


def with_users(scorer: Scorer, rows: Int64[np.ndarray, " kept"]) -> Scorer:
    """The scorer of the users in these rows; nothing of the others is left in it."""
    if isinstance(scorer, Embeddings):
        return replace(scorer, users=scorer.users[torch.from_numpy(rows)])
    assert isinstance(scorer, Neighbors)
    seen = _selected(scorer.seen, rows)
    if isinstance(scorer, UserNeighbors):
        return replace(scorer, seen=seen, nearest=_selected(scorer.nearest, rows, rows))
    return replace(scorer, seen=seen)


def _selected(
    matrix: Tensor, rows: Int64[np.ndarray, " rows"], columns: Int64[np.ndarray, " columns"] | None = None
) -> Tensor:
    """The rows and columns of a CSR matrix that are chosen."""
    parts = (matrix.values(), matrix.col_indices(), matrix.crow_indices())
    chosen = sp.csr_array(tuple(part.numpy() for part in parts), shape=tuple(matrix.shape))[rows]
    chosen = chosen if columns is None else chosen[:, columns]
    return csr_matrix(
        torch.from_numpy(chosen.indptr.astype(np.int64)), torch.from_numpy(chosen.indices.astype(np.int64)),
        torch.from_numpy(chosen.data), chosen.shape,
    )  # fmt: skip


def similarity_columns(similarity: Tensor, at: Int[Tensor, " chosen"]) -> Float[Tensor, "chosen items"]:
    """The columns of the given items; the row of an added item, which has no column."""
    items, known = similarity.shape
    columns = torch.zeros(len(at), items)
    old, new = (at < known).nonzero()[:, 0], (at >= known).nonzero()[:, 0]
    chosen = torch.zeros(known, len(old))
    chosen[at[old], torch.arange(len(old))] = 1.0
    columns[old] = (similarity @ chosen).T
    columns[new, :known] = dense_rows(similarity, at[new])
    return columns


def similarity_among(
    similarity: Tensor, at: Int[Tensor, " chosen"], others: Int[Tensor, " others"]
) -> Float[Tensor, "chosen others"]:
    """`similarity_columns` of these items alone, without a product with the whole matrix; `at` has no item twice."""
    known = similarity.shape[1]
    old, old_others = at < known, others < known
    among = torch.zeros(len(at), len(others))
    among[old] = _entries_at(similarity, others, at[old]).T
    new = torch.zeros(int((~old).sum()), len(others))
    new[:, old_others] = _entries_at(similarity, at[~old], others[old_others])
    among[~old] = new
    return among


def without_scale(
    scorer: Scorer,
    similarity: Float[Tensor, "chosen others"],
    at: Int[Tensor, " chosen"],
    others: Int[Tensor, "chosen others"],
    scale: float,
) -> Float[Tensor, "chosen others"]:
    """The similarities of other items to the chosen ones, those of added items as they are by content.

    `Neighbors` hold these times the scale (`ContentToVectors.scale`) with which added items get their share of lists.
    """
    if not isinstance(scorer, Neighbors):
        return similarity
    known = scorer.similarity.shape[1]
    return torch.where((at[:, None] >= known) | (others >= known), similarity / scale, similarity)


def _entries_at(
    matrix: Tensor, rows: Int[Tensor, " rows"], columns: Int[Tensor, " columns"]
) -> Float[Tensor, "rows columns"]:
    """The entries of a matrix, CSR or dense, at the crossings of rows and columns."""
    if matrix.layout == torch.strided:
        return matrix[rows[:, None], columns]
    place = torch.full((matrix.shape[1],), -1)
    place[columns] = torch.arange(len(columns))
    new, entries = entries_of(matrix, rows)
    at = place[matrix.col_indices()[entries].long()]
    found = matrix.values().new_zeros(len(rows), len(columns))
    found[new[at >= 0], at[at >= 0]] = matrix.values()[entries[at >= 0]]
    return found


def _concatenated(above: Tensor, below: Tensor) -> Tensor:
    """Two matrices, one above the other, in the layout of the first: CSR or dense."""
    if above.layout == torch.strided:
        return torch.cat([above, below])
    with beta_accepted():
        below = below if below.layout == torch.sparse_csr else below.to_sparse_csr()
    crow = torch.cat([above.crow_indices(), below.crow_indices()[1:] + above.crow_indices()[-1]])
    columns = torch.cat([above.col_indices(), below.col_indices()])
    values = torch.cat([above.values(), below.values()])
    shape = (above.shape[0] + below.shape[0], above.shape[1])
    return csr_matrix(crow, columns, values, shape)
