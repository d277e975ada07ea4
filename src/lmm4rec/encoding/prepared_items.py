"""The prepared inputs of a catalog's items, decoded and tokenized once instead of in every step."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import DataError
from lmm4rec.core.progress import progress
from lmm4rec.core.types import Inputs, Item
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.pixel_levels import Levels
from lmm4rec.encoding.sizing import MB

_BLOCK = 256
_SHORTEST = 2  # tokens: a text's start and end, which an encoder may need where there is no text between them


_DENSE = ("pixels", "spectrograms")  # inputs of many numbers, which may lie in a file


class PreparedItems:
    """The inputs of a catalog's items, for training from them step after step.

    A value of pixels or spectrograms takes one byte where its channel has no more than 256 different values, as in
    images of 8 bits whatever their scaling; the inputs come back the same to the last bit. What is beyond `memory_mb`
    lies in nameless temporary files, of which the system reads what is needed.
    """

    def __init__(self, encoder: Encoder, items: Sequence[Item], *, memory_mb: int) -> None:
        """Raises DataError where the pixels fit neither in memory nor in the folder of temporary files."""
        self._dense: dict[str, _DenseValues] = {}
        blocks: dict[str, list[Tensor]] = {}
        bar = progress(total=len(items), description="preparing items", unit="item", after_s=2.0)
        for start in range(0, len(items), _BLOCK):
            block = encoder.prepare(items[start : start + _BLOCK])
            if block.pixels is not None and block.has_image is None:
                block = block._replace(has_image=torch.ones(len(block.pixels), dtype=torch.bool))
            for name, values in block._asdict().items():
                if values is None:
                    continue
                if name in _DENSE:
                    taken = sum(one.memory_bytes for other, one in self._dense.items() if other != name) // MB
                    dense = self._dense.setdefault(name, _DenseValues(len(items), max(0, memory_mb - taken)))
                    dense.keep(values, start, block.has_image if name == "pixels" else None)
                else:
                    blocks.setdefault(name, []).append(values.int() if name == "text_ids" else values)
            bar.update(min(_BLOCK, len(items) - start))
        bar.close()
        self._small = {name: _stack(parts) for name, parts in blocks.items()}

    @property
    def text_lengths(self) -> Int[Tensor, " items"] | None:
        """The columns up to the last token of each item's text; None where the encoder reads no text."""
        mask = self._small.get("text_mask")
        return None if mask is None else _lengths(mask)

    @property
    def nbytes(self) -> int:
        """The bytes of pixels, spectrograms and texts as they are kept."""
        texts = sum(one.nbytes for name, one in self._small.items() if name.startswith("text"))
        return texts + sum(one.nbytes for one in self._dense.values())

    def complete(self) -> Int[Tensor, " rows"]:
        """The rows of the items that have all that the encoder reads: image, text, sound."""
        masks = [self._small[name] for name in ("has_image", "text_mask", "sound_mask") if name in self._small]
        rows = [mask if mask.ndim == 1 else mask.any(dim=1) for mask in masks]
        return torch.stack(rows).all(dim=0).nonzero().flatten()

    def of(self, rows: Int[Tensor, " chosen"]) -> Inputs:
        """The inputs of the given rows, on the device of `rows`; texts are cut to the longest among them."""
        device, rows = rows.device, rows.cpu()
        found = {name: values.of(rows, device) for name, values in self._dense.items()}
        found |= {name: values[rows] for name, values in self._small.items()}
        if "text_mask" in found:
            mask = found["text_mask"]
            width = max(_SHORTEST, int(_lengths(mask).amax()))
            found |= {"text_ids": found["text_ids"][:, :width].long(), "text_mask": mask[:, :width]}
        return Inputs(**found).to(device)


class _DenseValues:
    """The pixels or spectrograms of a catalog's items: as bytes as long as their values are few, else as they are."""

    def __init__(self, items: int, memory_mb: int) -> None:
        self._items, self._memory_mb = items, memory_mb
        self._levels: Levels | None = Levels()
        self._present = torch.ones(items, dtype=torch.bool)
        self.values: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """The bytes as they are kept."""
        return 0 if self.values is None else self.values.nbytes

    @property
    def memory_bytes(self) -> int:
        """The bytes that are kept in memory."""
        return 0 if self.values is None or self.values.untyped_storage().filename else self.nbytes

    def of(self, rows: Int[Tensor, " chosen"], device: torch.device) -> Float[Tensor, "chosen channels height width"]:
        """The values of the given rows, decoded on the device: a quarter of the bytes goes there."""
        return self._decoded(rows, device)

    def keep(
        self,
        block: Float[Tensor, "block channels height width"],
        start: int,
        present: Bool[Tensor, " block"] | None = None,
    ) -> None:
        """Keep the values of the items from row `start` on; those that are not `present` have zeros.

        Raises:
            DataError: they fit neither in memory nor in the folder of temporary files.
        """
        shape, end = (self._items, *block.shape[1:]), start + len(block)
        if present is not None:
            self._present[start:end] = present
        codes = None if self._levels is None else self._levels.encode(block, present)
        if codes is not None:
            if self.values is None:
                self.values = _allocate(shape, torch.uint8, self._memory_mb)
            self.values[start:end] = codes
            return
        if self._levels is not None:  # too many values for a byte: all are kept as they are
            floats = _allocate(shape, block.dtype, self._memory_mb)
            for first in range(0, start, _BLOCK):
                rows = slice(first, min(first + _BLOCK, start))
                floats[rows] = self._decoded(rows, torch.device("cpu"))
            self.values, self._levels = floats, None
        cast(Tensor, self.values)[start:end] = block

    def _decoded(self, rows: Int[Tensor, " chosen"] | slice, device: torch.device) -> Tensor:
        values = cast(Tensor, self.values)[rows].to(device)
        return values if self._levels is None else self._levels.decode(values, self._present[rows])


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
                f"the prepared inputs of {shape[0]:,} items need {needed / MB:,.0f} MiB, more than the {memory_mb:,} "
                f"MiB of memory that they may take and the {free / MB:,.0f} MiB that are free in "
                f"{Path(folder).parent}: raise inputs_mb (memory_mb in fine-tuning), or name a larger disk in TMPDIR"
            )
        return torch.from_file(str(Path(folder) / "pixels"), shared=True, size=count, dtype=dtype).view(shape)


def _lengths(mask: Bool[Tensor, "rows tokens"]) -> Int[Tensor, " rows"]:
    return (mask * torch.arange(1, mask.shape[1] + 1)).amax(dim=1)


def _stack(blocks: Sequence[Tensor]) -> Tensor:
    """The rows of all blocks; those of two dimensions are padded on the right to the widest."""
    if blocks[0].ndim == 1:
        return torch.cat(list(blocks))
    width = max(block.shape[1] for block in blocks)
    return torch.cat([F.pad(block, (0, width - block.shape[1])) for block in blocks])
