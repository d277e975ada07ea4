"""The space in which the content of items is compared: each modality centered and scaled, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lmm4rec.core.errors import DataError
from lmm4rec.core.types import Features, Modality
from lmm4rec.nn.projections import center_of, centered

KnownFeatures: TypeAlias = Mapping[Modality, Float[Tensor, "known _dim"]]
"""Features of the items that a model was trained on, beside those of new ones."""


@dataclass(frozen=True)
class ContentSpace:
    """Features as vectors: each modality less its mean, scaled to length 1, the modalities side by side.

    An item that lacks a modality has zeros there, like the average item.
    """

    centers: Mapping[Modality, Float[Tensor, " width"]]

    @classmethod
    def of(cls, features: Features) -> ContentSpace:
        """The space centered on the items that have each modality."""
        return cls({m: center_of(x) for m, x in features.items()})

    def __call__(self, features: Features) -> Float[Tensor, "items widths"]:
        """The items' content as one matrix.

        Raises:
            DataError: a modality is missing, or has another width.
        """
        parts = []
        for modality, center in self.centers.items():
            if modality not in features or features[modality].shape[1] != len(center):
                shapes = {m: x.shape[1] for m, x in features.items()}
                raise DataError(f"new items need {len(center)} numbers of '{modality}' features, got {shapes}")
            parts.append(centered(features[modality], center))
        return torch.cat(parts, dim=1)

    def similarity(self, new: Features, known: KnownFeatures) -> Float[Tensor, "new known"]:
        """The mean over modalities of the cosine, which is 0 where one of the two items lacks the modality."""
        return self(new) @ self(known).T / len(self.centers)

    def cosines(self, item: Features, known: KnownFeatures) -> dict[Modality, Float[Tensor, " known"]]:
        """The cosine of one item to others by each modality, of which `similarity` is the mean."""
        widths = [len(center) for center in self.centers.values()]
        products = torch.split(self(known) * self(item), widths, dim=1)
        return {modality: x.sum(1) for modality, x in zip(self.centers, products, strict=True)}


def nearest_only(similarity: Float[Tensor, "new known"], k: int) -> Float[Tensor, "new known"]:
    """The `k` largest similarities of each row, where they are positive, and 0 elsewhere."""
    top = similarity.topk(min(k, similarity.shape[1]), dim=1)
    return torch.zeros_like(similarity).scatter(1, top.indices, top.values.clamp(min=0))
