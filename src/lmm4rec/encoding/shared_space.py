"""What an encoder offers to train on pairs: its joint spaces, and whether it can tell if a pair belongs together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.types import Inputs
from lmm4rec.encoders.base import Encoder

LARGEST_SCALE = 100.0  # CLIP's bound on the inverse temperature (arXiv 2103.00020, sec. 2.5)


@runtime_checkable
class DualEncoder(Protocol):
    """An encoder whose image and text vectors live in one space, with a learned log inverse temperature."""

    logit_scale: Tensor


@runtime_checkable
class ManySpaces(Protocol):
    """An encoder with several joint spaces, or with a head that tells whether image and words belong together."""

    @property
    def spaces(self) -> Sequence[str]:
        """The names of the joint spaces that it has heads for, the one that its vectors come from first."""
        ...

    @property
    def matches(self) -> bool:
        """Whether `match` can be called."""
        ...

    def aligned(self, inputs: Inputs, space: str) -> tuple[Float[Tensor, "batch dim"], Float[Tensor, "batch dim"]]:
        """The vectors of images and words in a space."""
        ...

    def log_scale(self, space: str) -> Float[Tensor, ""]:
        """The learned log of the inverse temperature in a space."""
        ...

    def match(self, inputs: Inputs) -> Float[Tensor, "batch 2"]:
        """Logits of "does not belong together" and "does"."""
        ...


def spaces_of(encoder: Encoder) -> Sequence[str]:
    """The names of an encoder's joint spaces, its main one first.

    Raises:
        TrainingError: it has none.
    """
    if isinstance(encoder, ManySpaces) and encoder.reads("image") and encoder.reads("text"):
        found = encoder.spaces
    else:
        joint = isinstance(getattr(encoder, "logit_scale", None), Tensor) and {"image", "text"} <= set(encoder.dims)
        found = ("contrastive",) if joint else ()
    if not found:
        could = isinstance(getattr(encoder, "logit_scale", None), Tensor)
        advice = 'set outputs = "image+text"' if could else "take an encoder that has both in one space, such as 'clip'"
        raise TrainingError(
            f"{type(encoder).__name__} gives {', '.join(encoder.dims)} and cannot be tuned on pairs of image and text: "
            f"{advice}"
        )
    return found


def vectors_of(encoder: Encoder, inputs: Inputs, spaces: Sequence[str]) -> dict[str, tuple[Tensor, Tensor]]:
    """The unit vectors of images and words in each of the spaces, in float32."""
    if isinstance(encoder, ManySpaces):
        found = {space: encoder.aligned(inputs, space) for space in spaces}
    else:
        out = encoder(inputs)
        found = {spaces[0]: (out["image"], out["text"])}
    return {
        space: (F.normalize(image.float(), dim=1), F.normalize(text.float(), dim=1))
        for space, (image, text) in found.items()
    }


def scale_of(encoder: Encoder, space: str) -> Float[Tensor, ""]:
    """The inverse temperature of a space, with CLIP's bound put on what is learned.

    A bound on its use alone would leave it without gradient, and so held, once it is beyond.
    """
    log_scale = encoder.log_scale(space) if isinstance(encoder, ManySpaces) else cast(DualEncoder, encoder).logit_scale
    with torch.no_grad():
        log_scale.clamp_(max=math.log(LARGEST_SCALE))
    return log_scale.exp()
