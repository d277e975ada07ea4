"""Images as tensors, resized and normalized with PIL and torch alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor


def squash(image: Image.Image, size: int) -> Image.Image:
    """The whole image resized to a square, whatever its shape (bicubic)."""
    return image.resize((size, size), Image.Resampling.BICUBIC)


def fit_and_crop(image: Image.Image, shortest_edge: int, crop: tuple[int, int]) -> Image.Image:
    """The central crop (height, width) of the image whose shorter side is resized to `shortest_edge` (bicubic): CLIP's.

    The longer side is rounded down; where the crop exceeds the image it is black.
    """
    shorter = min(image.size)
    width, height = (shortest_edge * side // shorter for side in image.size)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (round((have - want) / 2) for have, want in zip(resized.size, crop[::-1], strict=True))
    return resized.crop((left, top, left + crop[1], top + crop[0]))


def to_tensor(
    image: Image.Image, mean: Sequence[float] = (0.0, 0.0, 0.0), std: Sequence[float] = (1.0, 1.0, 1.0)
) -> Float[Tensor, "3 height width"]:
    """The image's channels, scaled to 0..1, then shifted by `mean` and divided by `std`."""
    channels = np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))  # as bytes: a quarter of the copying
    values = torch.from_numpy(channels).float().div_(255.0)
    return values.sub_(torch.tensor(mean)[:, None, None]).div_(torch.tensor(std)[:, None, None])


def squash_half(image: Image.Image, size: int) -> Float[Tensor, "3 height width"]:
    """The whole image resized to a square, channels from -1 to 1, as in BEiT-3 and VLMo."""
    return to_tensor(squash(image, size), (0.5,) * 3, (0.5,) * 3)
