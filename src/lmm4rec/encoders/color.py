"""Color and texture: image vectors without any weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.types import Inputs, Item, Modality
from lmm4rec.encoders.base import Encoder, stack_pixels
from lmm4rec.nn.inputs import pixels_of
from lmm4rec.nn.pixels import squash, to_tensor

__all__ = ["Color"]

_SIZE = 64
_HUES, _CELLS, _ANGLES = 12, 3, 8


class Color(Encoder):
    """Color and texture statistics: an image baseline without any weights.

    On a 64 px version of the image, in the middle and in each of 3 x 3 cells: a histogram of hue (12 soft bins,
    weighted by saturation) with dark, gray and bright; and in each cell a histogram of gradient directions (8 soft
    bins, as in Dalal and Triggs 2005) at two scales. Square roots of the bins, L2-normalized (Hellinger kernel).
    """

    has_weights = False
    about: ClassVar = {"gives": "image; 294-d", "weights": "none"}

    def __init__(self) -> None:
        super().__init__()
        colors, directions = _HUES + 3, 2 * _ANGLES
        self.dims = {"image": (1 + _CELLS**2) * colors + _CELLS**2 * directions}

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """The images squashed to 64 x 64, channels in 0..1."""
        pixels, has_image = stack_pixels(items, lambda image: to_tensor(squash(image, _SIZE)))
        return Inputs(pixels=pixels, has_image=has_image)

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The unit vectors of the images."""
        pixels = pixels_of(inputs)
        colors = _color_bins(pixels)
        middle = colors[:, :, _SIZE // 4 : -_SIZE // 4, _SIZE // 4 : -_SIZE // 4].mean(dim=(2, 3))
        cells = F.adaptive_avg_pool2d(colors, _CELLS).flatten(1)
        gray = pixels.mean(dim=1, keepdim=True)
        texture = [_directions(gray), _directions(F.avg_pool2d(gray, 4))]
        parts = [middle, cells, *texture]
        return {"image": torch.cat([F.normalize(_root(part), dim=1) for part in parts], dim=1) / math.sqrt(len(parts))}

    def settings(self) -> dict[str, object]:
        """The sizes of grid and histograms, and the version of this code."""
        return {"size": _SIZE, "hues": _HUES, "cells": _CELLS, "angles": _ANGLES, "version": 1}


def _color_bins(pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch bins height width"]:
    """Each pixel's share in 12 hues, dark, gray and bright; the shares of a pixel add up to 1."""
    red, green, blue = pixels.unbind(1)
    value, low = pixels.amax(1), pixels.amin(1)
    chroma = value - low
    # the angle on the color circle, with red at 0 (hue of the HSI model)
    hue = torch.atan2(math.sqrt(3.0) * (green - blue), 2 * red - green - blue) / (2 * math.pi) % 1.0
    saturation = chroma / value.clamp(min=1e-6)
    weight = saturation * value
    colored = _soft_bins(hue, _HUES) * weight[:, None]
    rest = 1 - weight
    plain = torch.stack([(1 - value), value * (1 - value) * 2, value.square()], dim=1)
    plain = plain / plain.sum(1, keepdim=True).clamp(min=1e-6) * rest[:, None]
    return torch.cat([colored, plain], dim=1)


def _directions(gray: Float[Tensor, "batch 1 height width"]) -> Float[Tensor, "batch bins"]:
    """For each cell the gradients' directions (a line has no sign), weighted by their strength."""
    across, down = gray[:, :, 1:-1, 2:] - gray[:, :, 1:-1, :-2], gray[:, :, 2:, 1:-1] - gray[:, :, :-2, 1:-1]
    strength = (across.square() + down.square()).sqrt()
    angle = torch.atan2(down, across) / math.pi % 1.0
    bins = _soft_bins(angle[:, 0], _ANGLES) * strength
    return F.adaptive_avg_pool2d(bins, _CELLS).flatten(1)


def _soft_bins(turns: Float[Tensor, "batch height width"], bins: int) -> Float[Tensor, "batch bins height width"]:
    """Each value's share in the two nearest of `bins` places around a circle of length 1."""
    centers = torch.arange(bins, device=turns.device)[:, None, None]
    distance = (turns[:, None] * bins - centers).abs()
    return (1 - torch.minimum(distance, bins - distance)).clamp(min=0)


def _root(x: Tensor) -> Tensor:
    return x.clamp(min=1e-8).sqrt()
