"""The spaces that an encoder's image and text vectors share, each with its learned temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.types import Inputs
from lmm4rec.encoders.base import Encoder

LARGEST_LOG_SCALE = math.log(100.0)
"""CLIP's bound on the learned log of the inverse temperature (arXiv 2103.00020, sec. 2.5)."""


@runtime_checkable
class ManySpaces(Protocol):
    """An encoder with several shared spaces, or with a head that classifies whether image and text match."""

    @property
    def spaces(self) -> Sequence[str]:
        """The names of the shared spaces that it has heads for, that of its `forward` first."""
        ...

    @property
    def matches(self) -> bool:
        """Whether `match` can be called."""
        ...

    def aligned(self, inputs: Inputs, space: str) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        """The image and text vectors in a space."""
        ...

    def log_scale(self, space: str) -> Float[Tensor, ""]:
        """The learned log of the inverse temperature in a space."""
        ...

    def match(self, inputs: Inputs) -> Float[Tensor, "batch 2"]:
        """The logits of "does not match" and "matches"."""
        ...


@dataclass(frozen=True)
class SharedSpace:
    """A space that an encoder's image and text vectors share."""

    encoder: Encoder
    name: str

    def vectors(self, inputs: Inputs) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        """The unit vectors of images and texts, in float32."""
        if isinstance(self.encoder, ManySpaces):
            image, text = self.encoder.aligned(inputs, self.name)
        else:
            vectors = self.encoder(inputs)
            image, text = vectors["image"], vectors["text"]
        return F.normalize(image.float(), dim=1), F.normalize(text.float(), dim=1)

    def scale(self) -> Float[Tensor, ""]:
        """The learned inverse temperature.

        Its bound is applied by `bound_scale` alone: within the computation it would remove the gradient of a scale
        beyond it.
        """
        return self._log_scale.exp()

    @torch.no_grad()
    def bound_scale(self) -> None:
        """Clamp the learned scale to CLIP's bound of 100; called before training and after each optimizer step."""
        self._log_scale.clamp_(max=LARGEST_LOG_SCALE)

    @property
    def _log_scale(self) -> Tensor:
        if isinstance(self.encoder, ManySpaces):
            return self.encoder.log_scale(self.name)
        return cast(Tensor, self.encoder.logit_scale)


def shared_spaces(encoder: Encoder) -> tuple[SharedSpace, ...]:
    """The shared spaces of an encoder, that of its `forward` first; none where image and text share no space."""
    if isinstance(encoder, ManySpaces) and encoder.uses("image") and encoder.uses("text"):
        names = tuple(encoder.spaces)
    else:
        learned = isinstance(getattr(encoder, "logit_scale", None), Tensor)
        names = ("contrastive",) if learned and {"image", "text"} <= set(encoder.dims) else ()
    return tuple(SharedSpace(encoder, name) for name in names)
