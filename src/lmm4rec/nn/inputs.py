"""Batches of items as tensors: token ids padded to one length, and what a batch must hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Inputs


def pixels_of(inputs: Inputs) -> Float[Tensor, "batch channels height width"]:
    """The pixels; ConfigError where there are none."""
    if inputs.pixels is None:
        raise ConfigError("the encoder needs pixels, the inputs have none")
    return inputs.pixels


def spectrograms_of(inputs: Inputs) -> Float[Tensor, "batch channels height width"]:
    """The spectrograms; ConfigError where there are none."""
    if inputs.spectrograms is None:
        raise ConfigError("the encoder needs spectrograms, the inputs have none")
    return inputs.spectrograms


def shapes_of(inputs: Inputs) -> Int[Tensor, "batch 2"]:
    """The rows and columns of each image's patches; ConfigError where there are none."""
    if inputs.image_shape is None:
        raise ConfigError("the encoder needs image_shape (rows and columns of patches), the inputs have none")
    return inputs.image_shape


def with_shapes(inputs: Inputs) -> Inputs:
    """The inputs with the last two columns of the pixels, which are the same in each row, as `image_shape`."""
    if inputs.pixels is None:
        return inputs
    return inputs._replace(pixels=inputs.pixels[..., :-2], image_shape=inputs.pixels[:, 0, 0, -2:].long())


def text_of(inputs: Inputs) -> tuple[Int[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
    """The token ids and their mask; ConfigError where one is missing."""
    if inputs.text_ids is None or inputs.text_mask is None:
        raise ConfigError("the encoder needs text_ids and text_mask (True marks a real token), the inputs lack them")
    return inputs.text_ids, inputs.text_mask.bool()


def text_mask(inputs: Inputs) -> Bool[Tensor, "batch tokens"]:
    """The mask of the texts; ConfigError where there is none."""
    if inputs.text_mask is None:
        raise ConfigError("the encoder needs text_mask (True marks a real token), the inputs have none")
    return inputs.text_mask.bool()


def pad_tokens(
    rows: Sequence[Sequence[int]], pad: int, is_real: Sequence[object] | None = None
) -> tuple[Int[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
    """The token ids, padded on the right to the longest row, and their mask; all False where `is_real` is falsy."""
    width = max([1, *(len(row) for row in rows)])
    ids = torch.full((len(rows), width), pad, dtype=torch.int64)
    mask = torch.zeros(len(rows), width, dtype=torch.bool)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.tensor(row, dtype=torch.int64)
        mask[index, : len(row)] = is_real is None or bool(is_real[index])
    return ids, mask


def mask_empty_rows(mask: Bool[Tensor, "batch tokens"]) -> Bool[Tensor, "batch tokens"]:
    """The mask, with the first token True in rows without any: attention over nothing would be NaN."""
    empty = ~mask.any(dim=1)
    return torch.cat([mask[:, :1] | empty[:, None], mask[:, 1:]], dim=1)
