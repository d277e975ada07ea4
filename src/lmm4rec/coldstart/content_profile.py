"""User profiles by content: columns beside the model's own that affect the scores of new items alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.types import Embeddings

CONTENT = "content"
"""The part of `Embeddings` that holds the columns of the profiles."""

JOINT = "joint"
"""The part of `Embeddings` that holds all other columns, of a model without separate parts."""


@dataclass(frozen=True)
class ContentProfile:
    """The columns of users and new items in the part `CONTENT`; the model's own items have zeros there.

    A user has three kinds of columns: the content of their items, scaled to the length σ; σ; and the mean score, where
    σ² = uᵀ `spread` u is the variance of the model's scores for the user u. A new item has `weights` times its content,
    `level` and 1 in them, so that its scores are distributed like the user's other scores.
    """

    basis: Float[Tensor, "widths axes"]
    known: Float[Tensor, "items axes"]  # content times the basis, of the bundle's items
    weights: Float[Tensor, "widths axes"]
    level: Float[Tensor, " 1"]
    spread: Float[Tensor, "dim dim"]  # covariance of the model's item vectors
    mean: Float[Tensor, " dim"]  # the mean of the item vectors less that of new items

    def user_columns(
        self, users: Float[Tensor, "users dim"], interactions: sp.csr_array, known: Float[Tensor, "items axes"]
    ) -> Float[Tensor, "users columns"]:
        """The columns of users, from their vectors and their interactions with the `known` items."""
        contents = torch.from_numpy(np.asarray(interactions.astype(np.float32) @ known.numpy()))
        deviation = score_deviations(users, self.spread)
        return torch.cat([deviation * F.normalize(contents, dim=1), deviation, users @ self.mean[:, None]], dim=1)

    def item_columns(self, content: Float[Tensor, "new widths"]) -> Float[Tensor, "new columns"]:
        """The columns of new items."""
        return torch.cat([content @ self.weights, self.level.expand(len(content), 1), torch.ones(len(content), 1)], 1)


def score_deviations(users: Float[Tensor, "users dim"], spread: Float[Tensor, "dim dim"]) -> Float[Tensor, "users 1"]:
    """The standard deviation of each user's scores over items whose covariance is `spread`."""
    return (users @ spread * users).sum(1, keepdim=True).clamp(min=0).sqrt()


def with_content_columns(scorer: Embeddings, columns: Float[Tensor, "users columns"]) -> Embeddings:
    """The scorer with the users' columns of a `ContentProfile`; it ranks its items as before."""
    dim = scorer.users.shape[1]
    parts = {**(scorer.parts or {JOINT: slice(0, dim)}), CONTENT: slice(dim, dim + columns.shape[1])}
    items = F.pad(scorer.items, (0, columns.shape[1]))
    return Embeddings(torch.cat([scorer.users, columns], dim=1), items, parts=parts)


def without_content_columns(scorer: Embeddings) -> Embeddings:
    """The scorer without the columns that `with_content_columns` added."""
    if CONTENT not in scorer.parts:
        return scorer
    dim = scorer.parts[CONTENT].start
    parts = {part: columns for part, columns in scorer.parts.items() if part not in (CONTENT, JOINT)}
    return Embeddings(scorer.users[:, :dim], scorer.items[:, :dim], parts=parts)
