"""Several processes that train one model: what each takes over, and how their parts add up. One alone takes all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lmm4rec.core.progress import quiet

_ALONE = ContextVar("lmm4rec_alone", default=False)  # within `alone` nobody is waited for
_PATIENCE = timedelta(days=1)  # a process that waits for another is not stuck: that one may be training


def processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _ALONE.get() else 1


def number() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if processes() > 1 else 0


def is_first() -> bool:
    """Whether this process is the one that writes files and talks."""
    return number() == 0


@contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun started together with this one; a process on its own stays so."""
    if _ALONE.get() or int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=_PATIENCE)
    try:
        with nullcontext() if dist.get_rank() == 0 else quiet():
            yield
    finally:
        dist.destroy_process_group()


@contextmanager
def alone() -> Iterator[None]:
    """This process does the block as if it were the only one: nothing in it waits for others."""
    before = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(before)


@contextmanager
def first_alone() -> Iterator[None]:
    """The first process does the block as if alone, then all others do so: they find what it has left in a cache."""
    first = is_first()
    if not first:
        wait()
    with alone():
        yield
    if first:
        wait()


def wait() -> None:
    """Go on when all processes have come here."""
    if processes() > 1:
        dist.barrier()


def from_first(value: Any) -> Any:
    """The first process's plain value, in every process."""
    if processes() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def share(rows: Shaped[Tensor, " rows *rest"]) -> Shaped[Tensor, " own *rest"]:
    """This process's part of the rows: one run of them, of the same length in all processes or one longer."""
    return torch.tensor_split(rows, processes())[number()]


def gather(own: Float[Tensor, "own dim"], rows: int) -> Float[Tensor, "rows dim"]:
    """The vectors of all processes' shares of `rows` rows, in order, in every process.

    Gradient flows back: each process's vectors get the sum of what all processes' losses have for them. A loss that
    all compute alike so gives each as many times its gradient as there are processes; `average_gradients` takes that
    back.
    """
    return own if processes() == 1 else cast(Tensor, _Gather.apply(own, rows))  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: int) -> Tensor:
        counts = [len(part) for part in torch.tensor_split(torch.empty(rows), processes())]
        ctx.start, ctx.count = sum(counts[: number()]), counts[number()]
        padded = own.new_zeros(max(counts), *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.count], None


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the mean of all processes' gradients; a parameter without one in all of them keeps none."""
    if processes() == 1:
        return
    wanted = [parameter for parameter in parameters if parameter.requires_grad]
    has = torch.tensor([parameter.grad is not None for parameter in wanted], dtype=torch.int32)
    dist.all_reduce(has, op=dist.ReduceOp.MAX)
    chosen = [parameter for parameter, flag in zip(wanted, has.tolist(), strict=True) if flag]
    if not chosen:
        return
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in chosen]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= processes()
    for parameter, part in zip(chosen, torch.split(flat, [one.numel() for one in chosen]), strict=True):
        parameter.grad = part.view_as(parameter)


def average(values: Mapping[str, float]) -> dict[str, float]:
    """The mean over all processes of each named number."""
    if processes() == 1:
        return dict(values)
    total = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(total)
    return dict(zip(values, (total / processes()).tolist(), strict=True))


def synchronize(generator: torch.Generator) -> None:
    """Let the generator go on from where the first process's stands: what a loss draws depends on its share."""
    if processes() > 1:
        state = generator.get_state()
        dist.broadcast(state, src=0)
        generator.set_state(state)
