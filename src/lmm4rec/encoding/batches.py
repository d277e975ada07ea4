"""Encoding of items without gradient: batches are prepared ahead of the encoder, vectors are yielded in blocks."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Bool
from torch.utils.data import DataLoader

from lmm4rec.core.errors import DataError
from lmm4rec.core.types import Features, Inputs, Item
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding import sizing
from lmm4rec.encoding.runner import evaluating, masked_vectors
from lmm4rec.encoding.sizing import PREFETCH, ResolvedPrecision


@dataclass(frozen=True)
class ResolvedOptions:
    """Options of encoding without "auto". Only the precision changes the vectors; batch sizes change their rounding."""

    device: torch.device
    precision: ResolvedPrecision
    batch_size: int
    workers: int
    block_size: int


@dataclass(frozen=True)
class EncodingOptions:
    """Options of encoding; `resolve` replaces "auto" by measured values."""

    device: torch.device
    precision: ResolvedPrecision
    batch_size: int | Literal["auto"]
    memory_mb: int
    workers: int | Literal["auto"]
    block_size: int

    def resolve(self, encoder: Encoder, longest: Item, items: int) -> ResolvedOptions:
        """The options for a number of items; "auto" is measured on the item with the longest text.

        The batch size must not depend on how many items are still to be encoded: it determines the rounding.
        """
        size, workers = self.batch_size, self.workers
        if size == "auto" or workers == "auto":
            encoder.prepare([longest])  # the first time is slower
            began = time.perf_counter()
            inputs = encoder.prepare([longest])
            preparing_s = items * (time.perf_counter() - began)
            if size == "auto":
                with evaluating(encoder, self.device, "float32"):
                    size = sizing.batch_size(encoder, inputs.to(self.device), self.memory_mb)
            if workers == "auto":
                workers = sizing.worker_count(preparing_s, size * sizing.input_bytes(inputs))
        return ResolvedOptions(self.device, self.precision, size, workers, self.block_size)


class EncodedBlock(NamedTuple):
    """The vectors of consecutive items."""

    rows: range
    features: Features
    broken: Bool[torch.Tensor, " items"]  # the item names an image or a sound file that cannot be read


def encode_blocks(
    encoder: Encoder,
    items: Sequence[Item],
    options: ResolvedOptions,
    bar: Any,
    *,
    prepared: Iterator[Inputs] | None = None,
) -> Iterator[EncodedBlock]:
    """The vectors of the items in blocks; to be called within `evaluating`.

    The inputs of the batches are those `prepared` elsewhere, or are prepared here.

    No batch crosses the end of a block, so that a restart after any block has the same batches. Within a block nothing
    synchronizes with the device.

    Raises:
        DataError: a vector is not finite.
    """
    blocks = [cut(block, options.batch_size) for block in cut(range(len(items)), options.block_size)]
    batches = prepared or prepared_batches(encoder, items, [batch for block in blocks for batch in block], options)
    for block in blocks:
        vectors, broken = [], []
        for batch in block:
            inputs = next(batches)
            vectors.append(masked_vectors(encoder, inputs.to(options.device, non_blocking=True)))
            broken.append(encoder.unreadable([items[row] for row in batch], inputs))
            bar.update(len(batch))
        rows = range(block[0].start, block[-1].stop)
        features = {modality: torch.cat([one[modality] for one in vectors]).cpu() for modality in encoder.dims}
        _check_finite(encoder, features, items[rows.start : rows.stop], options)
        yield EncodedBlock(rows, features, torch.cat(broken).cpu())


def prepared_batches(
    encoder: Encoder, items: Sequence[Item], batches: Sequence[range], options: ResolvedOptions
) -> Iterator[Inputs]:
    """The inputs of the batches, prepared by `workers` processes ahead of their use."""
    loader: DataLoader[Any] = DataLoader(
        cast(Any, items),
        batch_sampler=cast(Any, batches),
        collate_fn=encoder.prepare,
        num_workers=options.workers,
        prefetch_factor=PREFETCH if options.workers else None,
        pin_memory=options.device.type == "cuda",
        worker_init_fn=_ignore_interrupt if options.workers else None,
        generator=torch.Generator(),  # else it draws from the global one
    )
    return iter(loader)


def _ignore_interrupt(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends the workers, without a traceback of each


def cut(rows: range, size: int) -> list[range]:
    """The rows in pieces of that size, the last one of the remainder."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _check_finite(encoder: Encoder, features: Features, items: Sequence[Item], options: ResolvedOptions) -> None:
    for modality, rows in features.items():
        wrong = (~rows.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if wrong:
            raise DataError(
                f"{type(encoder).__name__} gives item '{items[wrong[0]].id}' a {modality} vector that is not finite "
                f"({options.precision} on {options.device}); look at its weights"
            )
