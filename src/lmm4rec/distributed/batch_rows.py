"""The rows of a batch that this process computes the losses of, where several processes share a batch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float
from torch import Tensor

from lmm4rec.core.errors import TrainingError
from lmm4rec.distributed import process_group

_ROWS = ContextVar[int]("lmm4rec_batch_rows", default=0)  # of the whole batch, where it is shared


@contextmanager
def shared_batch(rows: int) -> Iterator[None]:
    """A context in which each process computes the losses of its `local_rows` of a batch of that number of rows."""
    before = _ROWS.set(rows)
    try:
        yield
    finally:
        _ROWS.reset(before)


def uniform(shape: torch.Size, generator: torch.Generator) -> Float[Tensor, " own *rest"]:
    """Random numbers in [0, 1) for the rows of a batch that this process has: those that one process would draw."""
    if not (rows := _ROWS.get()):
        return torch.rand(shape, generator=generator)
    return process_group.local_rows(torch.rand(rows, *shape[1:], generator=generator))


def require_whole_batch(reads: str) -> None:
    """Raises TrainingError where the processes share a batch, so that their gradients differ."""
    if _ROWS.get() and torch.is_grad_enabled():
        raise TrainingError(
            f"the losses read {reads}, so each process has to compute those of the whole batch: splits_batches must be "
            "False"
        )
