"""Vectors for items that the model has not seen, from their content; `newcomers_fit` finds the maps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeAlias

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import DataError, LMM4RecError
from lmm4rec.core.types import Embeddings, Features, Modality, Neighbors, Scorer
from lmm4rec.nn.content_layers import ContentPath
from lmm4rec.serving.scorer_space import CONTENT

Known: TypeAlias = Mapping[Modality, Float[Tensor, "known _dim"]]
"""Features of the items that a model knows, beside those of new ones."""

Origins: TypeAlias = Mapping[Modality, Float[Tensor, "added _columns"]]
"""What the vectors of items that were added have from each modality."""


@dataclass(frozen=True)
class Content:
    """How features are compared and mapped: each modality less its mean, scaled to length 1, side by side.

    An item that lacks a modality has zeros there: it stands where the average item does.
    """

    centers: Mapping[Modality, Float[Tensor, " width"]]

    @classmethod
    def of(cls, features: Features) -> Content:
        """Centered on the items that have each modality."""
        return cls({m: x.float().sum(0) / (x != 0).any(1).sum().clamp(min=1) for m, x in features.items()})

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
            x = features[modality].float()
            unit = F.normalize(x - center, dim=1)
            parts.append(torch.where((x != 0).any(1)[:, None], unit, 0.0))
        return torch.cat(parts, dim=1)

    def alike(self, new: Features, known: Known) -> Float[Tensor, "new known"]:
        """The mean over modalities of the cosine; 0 where one of both lacks the modality."""
        return self(new) @ self(known).T / len(self.centers)

    def cosines(self, one: Features, known: Known) -> dict[Modality, Float[Tensor, " known"]]:
        """The cosine of one item to others by each modality, of which `alike` is the mean."""
        widths = [len(center) for center in self.centers.values()]
        products = torch.split(self(known) * self(one), widths, dim=1)
        return {modality: x.sum(1) for modality, x in zip(self.centers, products, strict=True)}


@dataclass(frozen=True)
class Profile:
    """Tastes by content, for new items alone: columns beside the model's own in which its items have zeros.

    Three kinds: the content of what a person likes, scaled to the length σ; σ; and the person's mean score. Here
    σ² = uᵀ `spread` u is the variance of the scores that the model gives to a person u. A new item meets them with
    `weights` times its content, with `level` and with 1, so its scores are like a person's other scores.
    """

    basis: Float[Tensor, "widths axes"]
    known: Float[Tensor, "items axes"]  # content times the basis, of the bundle's items
    weights: Float[Tensor, "widths axes"]
    level: Float[Tensor, " 1"]
    spread: Float[Tensor, "dim dim"]  # covariance of the model's item vectors
    mean: Float[Tensor, " dim"]  # what their mean has on top of that of new items

    def people(
        self, users: Float[Tensor, "people dim"], likes: sp.csr_array, known: Float[Tensor, "items axes"]
    ) -> Float[Tensor, "people columns"]:
        """The columns of people by their vectors and by who likes which of the `known` items."""
        tastes = F.normalize(torch.from_numpy(np.asarray(likes.astype(np.float32) @ known.numpy())), dim=1)
        deviation = deviations(users, self.spread)
        return torch.cat([deviation * tastes, deviation, users @ self.mean[:, None]], dim=1)

    def items(self, content: Float[Tensor, "new widths"]) -> Float[Tensor, "new columns"]:
        """The columns of new items."""
        return torch.cat([content @ self.weights, self.level.expand(len(content), 1), torch.ones(len(content), 1)], 1)


def deviations(users: Float[Tensor, "users dim"], spread: Float[Tensor, "dim dim"]) -> Float[Tensor, "users 1"]:
    """The standard deviation of each user's scores over items whose covariance is `spread`."""
    return (users @ spread * users).sum(1, keepdim=True).clamp(min=0).sqrt()


@dataclass(frozen=True)
class Newcomers:
    """What gives an item that the model has not seen its vector.

    The columns that the model itself makes from content (`paths`, by part) are made that way; the `free` ones are
    `weights` times the content plus `offset`; those of the `profile` are its own. For a model without vectors, an item
    is like its `neighbors` nearest items by content, as much as they are alike times `scale`.
    """

    content: Content
    paths: Mapping[str, ContentPath] = field(default_factory=dict)
    free: Int[Tensor, " free"] = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    weights: Float[Tensor, "widths free"] = field(default_factory=lambda: torch.empty(0, 0))
    offset: Float[Tensor, " free"] = field(default_factory=lambda: torch.empty(0))
    neighbors: int = 0
    scale: float = 1.0
    profile: Profile | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)  # how it was chosen, for the card

    def vectors(self, new: Features, scorer: Scorer, known: Known) -> Float[Tensor, "new dim"]:
        """The rows of the item matrix for new items; `known` are the features of the scorer's items.

        With a profile, the scorer must have its columns already (`space.widened`). For `Neighbors`, their similarities
        to the items that people have.

        Raises:
            DataError: the features do not fit, or an item has none at all.
        """
        if isinstance(scorer, Neighbors):
            seen = {m: x[: scorer.similarity.shape[1]] for m, x in known.items()}
            return self._similarities(new, seen)
        if not isinstance(scorer, Embeddings):
            raise LMM4RecError(f"a {type(scorer).__name__} has no item vectors to make more of")
        vectors = torch.zeros(len(next(iter(new.values()))), scorer.items.shape[1])
        content = self.content(new)
        vectors[:, self.free] = content @ self.weights + self.offset
        if self.profile is not None:
            vectors[:, scorer.parts[CONTENT]] = self.profile.items(content)
        for part, path in self.paths.items():
            vectors[:, scorer.parts[part]] = path(new[part].float())
        return vectors

    def known(self, new: Features) -> Float[Tensor, "new axes"] | None:
        """The content of new items as tastes take it; None without a profile."""
        return None if self.profile is None else self.content(new) @ self.profile.basis

    def origins(self, new: Features, scorer: Scorer) -> Origins:
        """What the vectors of new items have from each modality; the rest of a vector is the same for all of them.

        Each modality is centered and scaled by itself, and what follows is linear: so vectors are sums over modalities,
        and without one an item loses these numbers. Nothing for `Neighbors`, which choose by all modalities together.
        """
        if not isinstance(scorer, Embeddings):
            return {}
        nothing = {modality: torch.zeros_like(x) for modality, x in new.items()}
        same = self.vectors(nothing, scorer, {})
        return {m: self.vectors({**nothing, m: new[m]}, scorer, {}) - same for m in self.content.centers}

    def _similarities(self, new: Features, seen: Known) -> Float[Tensor, "new seen"]:
        return self.scale * nearest_only(self.content.alike(new, seen), self.neighbors)

    def plain(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What JSON can hold of it, and its tensors."""
        told = {"neighbors": self.neighbors, "scale": self.scale, "facts": dict(self.facts)}
        told |= {
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
        return told, tensors

    @classmethod
    def of_plain(cls, told: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Newcomers:
        """What `plain` told; bundles made before there were profiles have none."""
        names = [one.name for one in fields(Profile)]
        profile = Profile(*(tensors[f"profile.{name}"] for name in names)) if told.get("profile") else None
        return cls(
            Content({modality: tensors[f"center.{modality}"] for modality in told["modalities"]}),
            {m: ContentPath(tensors[f"path.{m}"], tensors.get(f"path_center.{m}")) for m in told["paths"]},
            tensors["free"],
            tensors["weights"],
            tensors["offset"],
            told["neighbors"],
            told["scale"],
            profile,
            told["facts"],
        )


def nearest_only(alike: Float[Tensor, "new known"], k: int) -> Float[Tensor, "new known"]:
    """The `k` largest similarities of each row, where they are positive, and 0 elsewhere."""
    top = alike.topk(min(k, alike.shape[1]), dim=1)
    return torch.zeros_like(alike).scatter(1, top.indices, top.values.clamp(min=0))
