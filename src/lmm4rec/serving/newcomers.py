"""Vectors for items that the model has not seen, from their content."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.types import Embeddings, Features, Modality, Neighbors, Scorer

_NEIGHBORS = 20
NewFeatures: TypeAlias = Mapping[Modality, Float[Tensor, "new _dim"]]
"""As `Features`, a row a new item."""


@dataclass(frozen=True)
class Newcomers:
    """The weighted mean of the vectors of the catalog items whose content is most similar."""

    neighbors: int = _NEIGHBORS

    def vectors(self, known: Features, scorer: Scorer, new: NewFeatures) -> Float[Tensor, "new dim"]:
        """The vectors of the `new` items; `known` are the features of the scorer's items."""
        weights = alike(new, known)
        if isinstance(scorer, Neighbors):
            columns = weights[:, : scorer.similarity.shape[1]]
            least = columns.topk(min(self.neighbors, columns.shape[1]), dim=1).values[:, -1:]
            return torch.where(columns >= least, columns.clamp(min=0), 0.0)
        if not isinstance(scorer, Embeddings):
            raise LMM4RecError(f"a {type(scorer).__name__} has no item vectors to make more of")
        items = scorer.items
        best = weights.topk(min(self.neighbors, weights.shape[1]), dim=1)
        chosen = F.normalize(best.values.clamp(min=1e-6), p=1, dim=1)
        return torch.einsum("nk,nkd->nd", chosen, items[best.indices])

    def plain(self) -> tuple[dict[str, object], dict[str, Tensor]]:
        """What JSON can hold of it, and its tensors."""
        return {"method": "neighbors", "neighbors": self.neighbors}, {}

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Newcomers:
        """What `plain` told."""
        return cls(plain["neighbors"])


def alike(new: NewFeatures, known: Features) -> Float[Tensor, "new known"]:
    """The mean over modalities of the cosine of features; 0 where one of both lacks the modality."""
    cosines = [F.normalize(new[m].float(), dim=1) @ F.normalize(known[m].float(), dim=1).T for m in known]
    return torch.stack(cosines).mean(0)
