"""The loop of an extraction: batches are prepared ahead of the encoder, and vectors come out block by block."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.utils.data import DataLoader

from lmm4rec.core.errors import DataError
from lmm4rec.core.types import Features, Inputs, Item
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.sizing import PREFETCH, Resolved
from lmm4rec.features.store import Rows

__all__ = ["Manner", "computing", "cut", "encode_blocks", "prepared"]


@dataclass(frozen=True)
class Manner:
    """How to encode. Only the precision changes the vectors (batch sizes change their rounding)."""

    device: torch.device
    precision: Resolved
    batch_size: int
    workers: int
    block_size: int


def encode_blocks(encoder: Encoder, missing: Mapping[str, Item], manner: Manner, bar: Any) -> Iterator[Rows]:
    """The vectors of the items (by content), block by block.

    No batch reaches over the end of a block, so that a restart after any block makes the same batches. Nothing waits
    for the device within a block.

    Raises:
        DataError: a vector is not finite.
    """
    contents, items = tuple(missing), list(missing.values())
    blocks = [cut(block, manner.batch_size) for block in cut(range(len(items)), manner.block_size)]
    batches_ready = prepared(encoder, items, [batch for block in blocks for batch in block], manner)
    for block in blocks:
        done = []
        for batch in block:
            inputs = next(batches_ready)
            done.append((_vectors(encoder, inputs, manner.device), _unseen(inputs, len(batch))))
            bar.update(len(batch))
        rows = slice(block[0].start, block[-1].stop)
        features = {modality: torch.cat([one[modality] for one, _ in done]).cpu() for modality in encoder.dims}
        _check_finite(encoder, features, items[rows], manner)
        named = torch.tensor([item.image is not None for item in items[rows]], dtype=torch.bool)
        yield Rows.of(contents[rows], features, named & torch.cat([unseen for _, unseen in done]))


@contextmanager
def computing(encoder: Encoder, manner: Manner) -> Iterator[None]:
    """Evaluation without gradient, in the precision; afterwards every module is in the mode in which it was."""
    training = {module: module.training for module in encoder.modules()}
    encoder.eval()
    low = manner.precision == "bfloat16"
    try:
        # not inference_mode: only without it does autocast keep the weights that it has cast for the next batch
        with torch.no_grad(), torch.autocast(manner.device.type, dtype=torch.bfloat16, enabled=low):
            yield
    finally:
        for module, was_training in training.items():
            module.training = was_training


def prepared(encoder: Encoder, items: Sequence[Item], batches: Sequence[range], manner: Manner) -> Iterator[Inputs]:
    """The batches as numbers, made by `workers` processes ahead of their use."""
    loader: DataLoader[Any] = DataLoader(
        cast(Any, items),
        batch_sampler=cast(Any, batches),
        collate_fn=encoder.prepare,
        num_workers=manner.workers,
        prefetch_factor=PREFETCH if manner.workers else None,
        pin_memory=manner.device.type == "cuda",
        worker_init_fn=_ignore_interrupt if manner.workers else None,
        generator=torch.Generator(),  # else it draws from the global one
    )
    return iter(loader)


def _ignore_interrupt(_worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process ends the workers, without a traceback of each


def cut(rows: range, size: int) -> list[range]:
    """The rows in pieces of that size, the last one of what is left."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def _vectors(encoder: Encoder, inputs: Inputs, device: torch.device) -> Features:
    """The vectors of a batch, where the encoder is; zeros where the modality is missing."""
    there = Inputs(*(None if values is None else values.to(device, non_blocking=True) for values in inputs))
    vectors, present = encoder(there), encoder.present(there)
    return {
        modality: torch.where(present[modality][:, None], vectors[modality].float(), 0.0) for modality in encoder.dims
    }


def _unseen(inputs: Inputs, size: int) -> Bool[Tensor, " items"]:
    """Which rows of a batch have no image to look at, of those that an encoder looks at."""
    return torch.zeros(size, dtype=torch.bool) if inputs.has_image is None else ~inputs.has_image


def _check_finite(encoder: Encoder, features: Features, items: Sequence[Item], manner: Manner) -> None:
    for modality, rows in features.items():
        wrong = (~rows.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if wrong:
            raise DataError(
                f"{type(encoder).__name__} gives item '{items[wrong[0]].id}' a {modality} vector that is not finite "
                f"({manner.precision} on {manner.device}); look at its weights"
            )
