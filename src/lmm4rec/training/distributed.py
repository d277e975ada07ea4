"""Several processes that train as one: each takes its share of a batch, and all see all vectors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, distributed
from torch.autograd.function import once_differentiable


def processes() -> int:
    """How many processes train together; 1 where torch.distributed is not in use."""
    return distributed.get_world_size() if _joined() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return distributed.get_rank() if _joined() else 0


def _joined() -> bool:
    return distributed.is_available() and distributed.is_initialized()


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """The group that a launcher such as torchrun describes in the environment; nothing to do without one."""
    if _joined() or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def wait() -> None:
    """Go on when all processes have come this far."""
    if processes() > 1:
        distributed.barrier()


def share(rows: Shaped[Tensor, "batch ..."]) -> Shaped[Tensor, "own ..."]:
    """This process's part of a batch: contiguous, all parts together the batch in its order."""
    return rows.tensor_split(processes())[rank()]


def gather(vectors: Float[Tensor, "own dim"]) -> Float[Tensor, "batch dim"]:
    """The vectors of all processes in the order of the ranks; gradient flows back to each one's own.

    What each process computes from them is taken for a part of one sum: a loss that all compute alike gives each
    process as many times its gradient as there are processes, which `average_gradients` takes back.
    """
    if processes() == 1:
        return vectors
    return cast(Tensor, _Gather.apply(vectors))  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    """All processes' rows forward; backward the sum of what all send to this process's rows."""

    @staticmethod
    def forward(ctx: Any, vectors: Tensor) -> Tensor:
        counts = [torch.zeros(1, dtype=torch.int64, device=vectors.device) for _ in range(processes())]
        distributed.all_gather(counts, counts[0].new_tensor([len(vectors)]))
        sizes = [int(count) for count in counts]
        padded = vectors.new_zeros(max(sizes), *vectors.shape[1:])  # parts may differ by a row, tensors must not
        padded[: len(vectors)] = vectors
        parts = [torch.empty_like(padded) for _ in sizes]
        distributed.all_gather(parts, padded)
        ctx.start, ctx.size = sum(sizes[: rank()]), len(vectors)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.contiguous().clone()
        distributed.all_reduce(grad)
        return grad[ctx.start : ctx.start + ctx.size]


def average_gradients(parameters: Iterable[torch.nn.Parameter]) -> None:
    """Set every gradient to the mean of all processes'; one that no process has stays absent."""
    if processes() == 1:
        return
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    used = torch.tensor([float(parameter.grad is not None) for parameter in wanted], device=wanted[0].device)
    distributed.all_reduce(used)
    wanted = [parameter for parameter, count in zip(wanted, used.tolist(), strict=True) if count]
    grads = [torch.zeros_like(one) if one.grad is None else one.grad for one in wanted]
    flat = torch.cat([grad.flatten() for grad in grads])
    distributed.all_reduce(flat)
    flat /= processes()
    for parameter, part in zip(wanted, torch.split(flat, [grad.numel() for grad in grads]), strict=True):
        parameter.grad = part.view_as(parameter)
