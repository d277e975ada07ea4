"""Fold-in: vectors and scores of users that a model was not trained on, from the items of their history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.types import Embeddings, Neighbors
from lmm4rec.nn.csr import dense_rows

_WEIGHT = 1.0


@dataclass(frozen=True)
class UserFoldIn:
    """Regularized least squares against the item vectors V: the user's half of a step of alternating least squares.

    u = (VᵀV + λ mean(diag VᵀV) I)⁻¹ Vᵀ h, where h is 1 for the items of the history and 0 for all others (Hu et al.
    2008, doi 10.1109/ICDM.2008.22), λ = 1. Columns in which all users have the same number (biases) keep it, and the
    other columns are scaled to the mean length of the users, so that preference and popularity keep the balance of the
    training. Where all users have the same vector, as a single one has, no number tells a bias from a preference: the
    part named "bias" keeps it. Measured on known users, from their training items alone, this ranks about as well as
    their own vectors (`benchmarks/fold_in.py`).
    """

    constant: Bool[Tensor, " dim"]
    level: Float[Tensor, " dim"]  # the users' numbers in the constant columns
    inverse: Float[Tensor, "free free"]
    length: float

    @classmethod
    def of(cls, embeddings: Embeddings) -> UserFoldIn:
        """The fold-in against these item vectors, for any number of users.

        Raises:
            LMM4RecError: there is no trained user, whose numbers the constant columns and the length are.
        """
        users, items = embeddings.users, embeddings.items
        if not len(users):
            raise LMM4RecError(
                "all users that this model was trained on have been erased, and it cannot place new ones without them: "
                "train it again"
            )
        constant = _constant_columns(embeddings)
        free = items[:, ~constant].double()
        gram = free.T @ free
        if len(gram):
            # the length of the solution does not count: a mean of 1 keeps the inverse of any vectors within float32
            gram = gram / gram.diagonal().mean().clamp(min=1e-300) + _WEIGHT * torch.eye(len(gram), dtype=gram.dtype)
        length = float(users[:, ~constant].norm(dim=1).mean())
        return cls(constant, users[0] * constant, torch.linalg.inv(gram).float(), length)

    def __call__(self, history: Float[Tensor, "history dim"]) -> Float[Tensor, " dim"]:
        """The vector of a user whose history has these item vectors."""
        solution = self.inverse @ history[:, ~self.constant].sum(0)
        user = self.level.clone()
        user[~self.constant] = solution * (self.length / solution.norm().clamp(min=1e-12))
        return user


def _constant_columns(embeddings: Embeddings) -> Bool[Tensor, " dim"]:
    """Which columns have the same number for any user.

    Of several users with one vector and no named parts, all: a ranking that is the same for everybody.
    """
    users, parts = embeddings.users, embeddings.parts
    constant = (users == users[0]).all(0)
    if constant.all() and (parts or len(users) == 1):
        constant = torch.zeros_like(constant)
        constant[parts.get("bias", slice(0))] = True
    return constant


def fold_in_neighbors(scorer: Neighbors, rows: Int64[np.ndarray, " history"]) -> Float[Tensor, " items"]:
    """The scores of a user whose history has these rows, by a scorer without vectors.

    An added item, which has no column, counts as the items that it is similar to.
    """
    at, known = torch.from_numpy(rows), scorer.similarity.shape[1]
    history = torch.zeros(known)
    history[at[at < known]] = 1.0
    history += F.normalize(dense_rows(scorer.similarity, at[at >= known]), p=1, dim=1).sum(0)
    return scorer.history_scores(history[:, None])[:, 0]
