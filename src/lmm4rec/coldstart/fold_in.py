"""A vector for a person whom the model has never seen, from what they like."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lmm4rec.core.types import Embeddings

_WEIGHT = 1.0


@dataclass(frozen=True)
class FoldIn:
    """Regularized least squares against the item vectors V: the user's half of a step of alternating least squares.

    u = (VᵀV + λ mean(diag VᵀV) I)⁻¹ Vᵀ h, where h is 1 for what the person likes and 0 for all else (Hu et al. 2008,
    doi 10.1109/ICDM.2008.22), λ = 1. Columns in which all users have the same number (biases) have it here too, and the
    rest is as long as users are on average, so that taste and popularity weigh against each other as they were trained
    to. Measured on people the model knows, from their training items alone, this ranks about as well as their own
    vectors (`benchmarks/fold_in.py`).
    """

    constant: Bool[Tensor, " dim"]
    level: Float[Tensor, " dim"]  # what users have in the constant columns
    inverse: Float[Tensor, "free free"]
    length: float

    @classmethod
    def of(cls, embeddings: Embeddings) -> FoldIn:
        """Ready for any number of people."""
        users, items = embeddings.users, embeddings.items
        constant = (users == users[0]).all(0)
        free = items[:, ~constant].double()
        gram = free.T @ free
        if len(gram):
            gram += _WEIGHT * gram.diagonal().mean().clamp(min=1e-12) * torch.eye(len(gram), dtype=gram.dtype)
        length = float(users[:, ~constant].norm(dim=1).mean())
        return cls(constant, users[0] * constant, torch.linalg.inv(gram).float(), length)

    def __call__(self, liked: Float[Tensor, "history dim"]) -> Float[Tensor, " dim"]:
        """The user vector of a person who likes these item vectors."""
        found = self.inverse @ liked[:, ~self.constant].sum(0)
        user = self.level.clone()
        user[~self.constant] = found * (self.length / found.norm().clamp(min=1e-12))
        return user
