"""Sizes of a vision-language transformer, from the shapes of its weights and from the user's parameters."""

from __future__ import annotations

from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.nn.transformers.position_tables import square_side

_RELEASED_HEADS = {544: 16, 768: 12, 1024: 16}  # by width: VLMo base plus; base; large


def head_count(dim: int, given: int | None, known: int | None = None) -> int:
    """The number of attention heads: known from the weights, else given, else that of the released models `dim` wide.

    Raises:
        ConfigError: the given heads contradict the weights, or do not divide `dim`.
    """
    if known is not None and given not in (None, known):
        raise ConfigError(f"heads = {given}, but the checkpoint's relative position biases are for {known} heads")
    heads = known or given or _RELEASED_HEADS.get(dim)
    if not heads:
        raise ConfigError(
            f"give heads: the number of attention heads does not follow from the weights, which are {dim} wide"
        )
    if dim % heads:
        raise ConfigError(f"{heads} attention heads do not divide the checkpoint's width of {dim}")
    return heads


def square_patch(kernel: Tensor, given: int | None) -> int:
    """The side of a patch, from the kernel [dim, 3, patch, patch] that embeds it.

    Raises:
        ConfigError: patches are not square, or the given patch is another.
    """
    *_, height, width = kernel.shape
    if height != width or given not in (None, height):
        raise ConfigError(
            f"patch = {given}, but the checkpoint's patches are {height} x {width} pixels, which cannot be changed"
            if given
            else f"the checkpoint's patches are {height} x {width} pixels; they must be square"
        )
    return int(height)


def grid_side(positions: int) -> int:
    """The side of the square of patches of a table of positions.

    Raises:
        ConfigError: it is not a square.
    """
    side = square_side(positions)
    if side is None:
        raise ConfigError(f"the checkpoint has positions for {positions} patches, which are not a square")
    return side


def image_size(given: int | None, patch: int, default: int) -> int:
    """The side of the images in pixels.

    Raises:
        ConfigError: it is not a multiple of the patch.
    """
    size = given or default
    if size % patch:
        raise ConfigError(f"image_size = {size} is not a multiple of the checkpoint's patches of {patch} pixels")
    return size


def text_length(given: int | None, default: int, at_most: int) -> int:
    """The number of tokens that are read of a text, both ends included.

    Raises:
        ConfigError: there are fewer positions, or no room for both ends.
    """
    length = given or min(default, at_most)
    if not 2 <= length <= at_most:
        raise ConfigError(f"text_len = {length}, but the checkpoint is for texts of 2 to {at_most} tokens")
    return length
