"""The prepared inputs of a catalog's items, decoded and tokenized once instead of in every step."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import DataError
from lmm4rec.core.progress import progress
from lmm4rec.core.types import Inputs, Item
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.sizing import MB

_BLOCK = 256
_LEVELS = 256
_SHORTEST = 2  # tokens: a text's start and end, which an encoder may need where there is no text between them


class PreparedItems:
    """The inputs of a catalog's items, for training from them step after step.

    A pixel value takes one byte where its channel has no more than 256 different values, as in images of 8 bits
    whatever their scaling; the inputs come back the same to the last bit. Pixels beyond `memory_mb` lie in a nameless
    temporary file, of which the system reads what is needed.
    """

    def __init__(self, encoder: Encoder, items: Sequence[Item], *, memory_mb: int) -> None:
        """Raises DataError where the pixels fit neither in memory nor in the folder of temporary files."""
        self._memory_mb = memory_mb
        self._levels: Levels | None = Levels()
        self._pixels: Tensor | None = None
        has_image, ids, masks = [], [], []
        bar = progress(total=len(items), description="preparing items", unit="item", after_s=2.0)
        for start in range(0, len(items), _BLOCK):
            block = encoder.prepare(items[start : start + _BLOCK])
            if block.pixels is not None:
                self._keep_pixels(block.pixels, start, len(items))
                has_image.append(torch.ones(len(block.pixels)).bool() if block.has_image is None else block.has_image)
            if block.text_ids is not None and block.text_mask is not None:
                ids.append(block.text_ids.int())
                masks.append(block.text_mask)
            bar.update(min(_BLOCK, len(items) - start))
        bar.close()
        self._has_image = torch.cat(has_image) if has_image else None
        self._text = (_stack(ids), _stack(masks)) if ids else None

    @property
    def nbytes(self) -> int:
        """The bytes of all inputs as they are kept."""
        tensors = (self._pixels, *(self._text or ()))
        return sum(one.nbytes for one in tensors if one is not None)

    def complete(self) -> Int[Tensor, " rows"]:
        """The rows of the items that have all that the encoder reads: image, text or both."""
        parts = [self._has_image, None if self._text is None else self._text[1].any(dim=1)]
        return torch.stack([part for part in parts if part is not None]).all(dim=0).nonzero().flatten()

    def of(self, rows: Int[Tensor, " chosen"]) -> Inputs:
        """The inputs of the given rows, on the device of `rows`; texts are cut to the longest among them."""
        device, rows = rows.device, rows.cpu()
        pixels = has_image = ids = mask = None
        if self._pixels is not None and self._has_image is not None:
            pixels, has_image = self._decoded(self._pixels[rows]), self._has_image[rows]
        if self._text is not None:
            ids, mask = (column[rows] for column in self._text)
            width = max(_SHORTEST, int((mask * torch.arange(1, mask.shape[1] + 1)).amax()))
            ids, mask = ids[:, :width].long(), mask[:, :width]
        return Inputs(pixels, ids, mask, has_image).to(device)

    def _decoded(self, pixels: Tensor) -> Tensor:
        return pixels if self._levels is None else self._levels.decode(pixels)

    def _keep_pixels(self, block: Float[Tensor, "block channels height width"], start: int, items: int) -> None:
        shape, end = (items, *block.shape[1:]), start + len(block)
        codes = None if self._levels is None else self._levels.encode(block)
        if codes is not None:
            if self._pixels is None:
                self._pixels = _allocate(shape, torch.uint8, self._memory_mb)
            self._pixels[start:end] = codes
            return
        if self._levels is not None:  # too many values for a byte: all pixels are kept as they are
            floats = _allocate(shape, block.dtype, self._memory_mb)
            for first in range(0, start, _BLOCK):
                last = min(first + _BLOCK, start)
                floats[first:last] = self._decoded(cast(Tensor, self._pixels)[first:last])
            self._pixels, self._levels = floats, None
        cast(Tensor, self._pixels)[start:end] = block


def _allocate(shape: tuple[int, ...], dtype: torch.dtype, memory_mb: int) -> Tensor:
    """An empty tensor, in memory or in a file that is gone when nothing uses it any more."""
    count = math.prod(shape)
    needed = count * dtype.itemsize
    if needed <= memory_mb * MB:
        return torch.empty(shape, dtype=dtype)
    with tempfile.TemporaryDirectory(prefix="lmm4rec-pixels-") as folder:
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise DataError(
                f"the prepared images of {shape[0]:,} items need {needed / MB:,.0f} MiB, more than the {memory_mb:,} "
                f"MiB of memory that they may take and the {free / MB:,.0f} MiB that are free in "
                f"{Path(folder).parent}: raise inputs_mb (memory_mb in fine-tuning), or name a larger disk in TMPDIR"
            )
        return torch.from_file(str(Path(folder) / "pixels"), shared=True, size=count, dtype=dtype).view(shape)


class Levels:
    """The distinct values of each channel, in the order of their first occurrence."""

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
            codes, wrong = _number(self._values[channel], values)
            unknown = values[wrong]
            if not len(unknown):
                return codes
            new = torch.unique(unknown[:: max(1, len(unknown) // 65536)])  # those it misses come in the next round
            if len(self._values[channel]) + len(new) > _LEVELS:
                return None
            self._values[channel] = torch.cat([self._values[channel], new])

    def decode(
        self, codes: UInt8[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The pixels that were encoded."""
        return torch.stack([known[codes[:, c].long()] for c, known in enumerate(self._values)], dim=1)


def _number(
    known: Float[Tensor, " levels"], values: Float[Tensor, "*shape"]
) -> tuple[UInt8[Tensor, "*shape"], Bool[Tensor, "*shape"]]:
    """The number of each value among the known ones, and whether it is none of them."""
    if not len(known):
        return torch.zeros_like(values, dtype=torch.uint8), torch.ones_like(values, dtype=torch.bool)
    ordered, places = known.sort()
    nearest = torch.searchsorted(ordered, values.contiguous()).clamp_(max=len(known) - 1)
    return places.to(torch.uint8)[nearest], ordered[nearest] != values


def _stack(columns: Sequence[Int[Tensor, "_rows _length"] | Bool[Tensor, "_rows _length"]]) -> Tensor:
    width = max(column.shape[1] for column in columns)
    return torch.cat([F.pad(column, (0, width - column.shape[1])) for column in columns])
