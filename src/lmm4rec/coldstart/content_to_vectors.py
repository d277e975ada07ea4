"""Vectors for items that a model was not trained on, from their content; `fit_content_to_vectors` fits the maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.coldstart.content_profile import CONTENT, ContentProfile
from lmm4rec.coldstart.content_space import ContentSpace, KnownFeatures, nearest_only
from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.types import Embeddings, Features, Modality, Neighbors, Scorer
from lmm4rec.nn.projections import ContentProjection, HiddenLayer

ModalityShares: TypeAlias = Mapping[Modality, Float[Tensor, "added _columns"]]
"""The summand of each modality in the vectors of added items."""


@dataclass(frozen=True)
class ContentToVectors:
    """The maps from the content of a new item to its vector.

    Columns that the model itself computes from content come from its own maps (`paths`, by part; those of a model
    without parts add up in all columns), the `free` columns are `weights` times the content plus `offset`, and the last
    columns are those of the `profile`. For a model without vectors, the similarities of a new item are `scale` times
    the sum of the model's `paths`; without these, they are `scale` times those to its `neighbors` nearest items by
    content.
    """

    content: ContentSpace
    paths: Mapping[str, ContentProjection] = field(default_factory=dict)
    free: Int[Tensor, " free"] = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    weights: Float[Tensor, "widths free"] = field(default_factory=lambda: torch.empty(0, 0))
    offset: Float[Tensor, " free"] = field(default_factory=lambda: torch.empty(0))
    neighbors: int = 0
    scale: float = 1.0
    profile: ContentProfile | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  # method and quality, for the model card

    def vectors(self, new: Features, scorer: Scorer, known: KnownFeatures) -> Float[Tensor, "new dim"]:
        """The rows of the item matrix for new items; `known` are the features of the scorer's items.

        With a profile, the scorer must have its columns already (`with_content_columns`). For `Neighbors`, their
        similarities to the items that users have interacted with.

        Raises:
            DataError: the features have other modalities or widths than those that the maps were fitted to.
        """
        if isinstance(scorer, Neighbors) and self.paths:
            self.content(new)  # raises DataError on other modalities and widths
            return self.scale * torch.stack([path(new[m].float()) for m, path in self.paths.items()]).sum(0)
        if isinstance(scorer, Neighbors):
            seen = {m: x[: scorer.similarity.shape[1]] for m, x in known.items()}
            return self.scale * nearest_only(self.content.similarity(new, seen), self.neighbors)
        if not isinstance(scorer, Embeddings):
            raise LMM4RecError(f"a {type(scorer).__name__} has no item vectors that new items could get")
        vectors = torch.zeros(len(next(iter(new.values()))), scorer.items.shape[1])
        content = self.content(new)
        vectors[:, self.free] = content @ self.weights + self.offset
        if self.profile is not None:
            vectors[:, scorer.parts[CONTENT]] = self.profile.item_columns(content)
        for part, path in self.paths.items():
            vectors[:, scorer.parts.get(part, slice(None))] += path(new[part].float())
        return vectors

    def profile_content(self, new: Features) -> Float[Tensor, "new axes"] | None:
        """The content of new items in the basis of the profile; None without a profile."""
        return None if self.profile is None else self.content(new) @ self.profile.basis

    def modality_shares(self, new: Features, scorer: Scorer) -> ModalityShares:
        """The summand of each modality in the vectors of new items; what is left is the same for all of them.

        Each modality is centered, scaled and mapped by itself: so vectors are sums over modalities, and without one an
        item loses these numbers. Empty where all modalities together choose the nearest items.
        """
        if not isinstance(scorer, Embeddings) and not self.paths:
            return {}
        zeros = {modality: torch.zeros_like(x) for modality, x in new.items()}
        common = self.vectors(zeros, scorer, {})
        return {m: self.vectors({**zeros, m: new[m]}, scorer, {}) - common for m in self.content.centers}

    def serialize(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """The values that JSON can hold, and the tensors."""
        values = {
            "neighbors": self.neighbors,
            "scale": self.scale,
            "facts": dict(self.facts),
            "profile": self.profile is not None,
            "modalities": list(self.content.centers),
            "paths": list(self.paths),
        }
        tensors = {"free": self.free, "weights": self.weights.contiguous(), "offset": self.offset}
        tensors |= {f"center.{modality}": center for modality, center in self.content.centers.items()}
        if self.profile is not None:
            tensors |= {f"profile.{name}": x.contiguous() for name, x in vars(self.profile).items()}
        for part, path in self.paths.items():
            tensors[f"path.{part}"] = path.weights.contiguous()
            if path.center is not None:
                tensors[f"path_center.{part}"] = path.center.clone()
            if path.axes is not None:
                tensors[f"path_axes.{part}"] = path.axes.contiguous()
            if path.hidden is not None:
                tensors |= {f"path_{name}.{part}": x.clone() for name, x in path.hidden._asdict().items()}
        return values, tensors

    @classmethod
    def deserialize(cls, values: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> ContentToVectors:
        """The maps that `serialize` wrote; bundles older than the profiles have none."""
        names = [one.name for one in fields(ContentProfile)]
        has_profile = values.get("profile", False)
        return cls(
            ContentSpace({modality: tensors[f"center.{modality}"] for modality in values["modalities"]}),
            {m: _path(m, tensors) for m in values["paths"]},
            tensors["free"],
            tensors["weights"],
            tensors["offset"],
            values["neighbors"],
            values["scale"],
            ContentProfile(*(tensors[f"profile.{name}"] for name in names)) if has_profile else None,
            values["facts"],
        )


def _path(part: str, tensors: Mapping[str, Tensor]) -> ContentProjection:
    center, axes = (tensors.get(f"{name}.{part}") for name in ("path_center", "path_axes"))
    outer = tensors.get(f"path_outer.{part}")
    hidden = None if outer is None else HiddenLayer(tensors[f"path_offset.{part}"], outer)
    return ContentProjection(tensors[f"path.{part}"], center, axes, hidden)
