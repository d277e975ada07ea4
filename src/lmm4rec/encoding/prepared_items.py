"""What an encoder takes of each item, prepared once and kept small: decoded and tokenized once, not once a step."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.progress import progress
from lmm4rec.core.types import Inputs, Item
from lmm4rec.encoders.base import Encoder

__all__ = ["Levels", "PreparedItems"]

_BLOCK = 128
_LEVELS = 256
_MB = 2**20


class PreparedItems:
    """The inputs of a catalog's items: in memory where they fit, else prepared whenever they are asked for.

    Pixels are kept as one byte each where a channel has no more than 256 different values, as those of images have
    after any scaling of theirs; what comes out is the same to the last bit.
    """

    def __init__(self, encoder: Encoder, items: Sequence[Item], *, memory_mb: int) -> None:
        self.encoder, self.items = encoder, items
        self._levels: Levels | None = Levels()
        self._pixels: Tensor | None = None
        self._has_image: Tensor | None = None
        self._text: tuple[Tensor, Tensor] | None = None
        first = encoder.prepare(items[:_BLOCK])
        self.needed_mb = len(items) / min(len(items), _BLOCK) * self._bytes(first) / _MB
        self.in_memory = self.needed_mb <= memory_mb
        if self.in_memory:
            self._keep(first)
        else:
            logging.getLogger(__name__).warning(
                "the prepared inputs of %s items need %.0f MiB, more than inputs_mb = %d: they are prepared anew for "
                "every step, which is slow",
                f"{len(items):,}",
                self.needed_mb,
                memory_mb,
            )

    def of(self, rows: Int[Tensor, " chosen"]) -> Inputs:
        """The inputs of the given rows, on the device of `rows`; texts are cut to the longest among them."""
        device, rows = rows.device, rows.cpu()
        if self.in_memory:
            inputs = self._kept(rows)
        else:
            inputs = self.encoder.prepare([self.items[row] for row in rows.tolist()])
        return Inputs(*(None if values is None else values.to(device) for values in inputs))

    def _kept(self, rows: Int[Tensor, " chosen"]) -> Inputs:
        inputs = Inputs()
        if self._pixels is not None:
            pixels = self._pixels[rows]
            pixels = pixels if self._levels is None else self._levels.decode(pixels)
            inputs = inputs._replace(pixels=pixels)
        if self._has_image is not None:
            inputs = inputs._replace(has_image=self._has_image[rows])
        if self._text is not None:
            ids, mask = (column[rows] for column in self._text)
            width = max(1, int((mask * torch.arange(1, mask.shape[1] + 1)).max()))
            # tokens behind the mask are kept: an encoder may want an end token where there are no words
            width = max(width, int(((ids != 0) * torch.arange(1, ids.shape[1] + 1)).max()))
            inputs = inputs._replace(text_ids=ids[:, :width].long(), text_mask=mask[:, :width])
        return inputs

    def _keep(self, first: Inputs) -> None:
        pixels: list[Tensor] = []
        has_image, ids, masks = [], [], []
        total = len(self.items)
        bar = progress(total=total, description="preparing items", unit="item", after_s=2.0)
        for start in range(0, total, _BLOCK):
            block = self.encoder.prepare(self.items[start : start + _BLOCK]) if start else first
            if block.pixels is not None:
                pixels.append(self._compact(block.pixels, pixels))
            if block.has_image is not None:
                has_image.append(block.has_image)
            if block.text_ids is not None and block.text_mask is not None:
                ids.append(block.text_ids.int())
                masks.append(block.text_mask)
            bar.update(min(_BLOCK, total - start))
        bar.close()
        self._pixels = torch.cat(pixels) if pixels else None
        self._has_image = torch.cat(has_image) if has_image else None
        self._text = (_stack(ids), _stack(masks)) if ids else None

    def _compact(self, block: Tensor, before: list[Tensor]) -> Tensor:
        """The block as it is kept; where it has too many levels, all blocks are kept as they came from here on."""
        if self._levels is None:
            return block
        codes = self._levels.encode(block)
        if codes is not None:
            return codes
        before[:] = [self._levels.decode(one) for one in before]
        self._levels = None
        return block

    def _bytes(self, block: Inputs) -> int:
        text = 0 if block.text_ids is None else 5 * block.text_ids.numel()
        if block.pixels is None:
            return text
        return text + block.pixels.numel() * (4 if Levels().encode(block.pixels) is None else 1)


class Levels:
    """Which values the numbers of each channel take, in the order in which they were first met."""

    def __init__(self) -> None:
        self._values: list[Tensor] = []

    def encode(
        self, pixels: Float[Tensor, "batch channels height width"]
    ) -> UInt8[Tensor, "batch channels height width"] | None:
        """The number of each pixel's value; None where a channel has had more than 256 of them."""
        self._values = self._values or [torch.empty(0)] * pixels.shape[1]
        codes = [self._encode(channel, pixels[:, channel]) for channel in range(pixels.shape[1])]
        return None if any(one is None for one in codes) else torch.stack(cast(list[Tensor], codes), dim=1)

    def _encode(self, channel: int, values: Float[Tensor, "batch height width"]) -> Tensor | None:
        while True:
            codes, wrong = _find(self._values[channel], values)
            unknown = values[wrong]
            if not len(unknown):
                return codes
            new = torch.unique(unknown[:: max(1, len(unknown) // 65536)])  # those it misses are met in the next round
            if len(self._values[channel]) + len(new) > _LEVELS:
                return None
            self._values[channel] = torch.cat([self._values[channel], new])

    def decode(
        self, codes: UInt8[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The pixels that were encoded."""
        return torch.stack([known[codes[:, c].long()] for c, known in enumerate(self._values)], dim=1)


def _find(
    known: Float[Tensor, " levels"], values: Float[Tensor, "*shape"]
) -> tuple[UInt8[Tensor, "*shape"], Bool[Tensor, "*shape"]]:
    """For each value its number among the known ones, and whether it is none of them."""
    if not len(known):
        return torch.zeros_like(values, dtype=torch.uint8), torch.ones_like(values, dtype=torch.bool)
    ordered, places = known.sort()
    found = torch.searchsorted(ordered, values.contiguous()).clamp_(max=len(known) - 1)
    return places.to(torch.uint8)[found], ordered[found] != values


def _stack(columns: Sequence[Int[Tensor, "_rows _length"] | Bool[Tensor, "_rows _length"]]) -> Tensor:
    width = max(column.shape[1] for column in columns)
    return torch.cat([F.pad(column, (0, width - column.shape[1])) for column in columns])
