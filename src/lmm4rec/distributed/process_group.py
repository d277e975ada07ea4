"""The group of processes that train one model together; a single process is a group of one."""

from __future__ import annotations

import itertools
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, cast

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from lmm4rec.core.errors import ConfigError, ProcessLostError
from lmm4rec.core.progress import quiet
from lmm4rec.distributed.shared_memory import SharedMemory

_SINGLE = ContextVar("lmm4rec_single_process", default=False)
_SHARED_MEMORY = ContextVar[SharedMemory | None]("lmm4rec_shared_memory", default=None)
_TIMEOUT = timedelta(days=1)  # the others wait at a barrier while the first process encodes or validates
_LOST = re.compile(r"gloo/transport|NCCL|Connection (reset|closed) by peer")


def world_size() -> int:
    """The number of processes in the group; 1 within `single_process`."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() and not _SINGLE.get() else 1


def local_size() -> int:
    """The number of processes of the group on this machine."""
    return 1 if world_size() == 1 else int(os.environ.get("LOCAL_WORLD_SIZE", world_size()))


def rank() -> int:
    """The number of this process in the group, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_first() -> bool:
    """Whether this is process 0, the one that writes files and logs."""
    return rank() == 0


@contextmanager
def initialized() -> Iterator[None]:
    """A context with the process group of the variable `WORLD_SIZE`; progress is shown by the first process only.

    Where it is not set, or within another such context, nothing changes. It is set by `launch` and by torchrun.

    Raises:
        ConfigError: WORLD_SIZE is set without the other variables of torchrun.
        ProcessLostError: another process of the group has ended.
    """
    if _SINGLE.get() or int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        yield
        return
    if missing := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise ConfigError(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']} without {', '.join(missing)}: unset it, or start with torchrun"
        )
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("cpu:gloo,cuda:nccl" if on_gpu else "gloo", timeout=_TIMEOUT)
    before = _SHARED_MEMORY.set(None)
    try:
        _SHARED_MEMORY.set(_shared_memory())
        with nullcontext() if dist.get_rank() == 0 else quiet():
            yield
    except RuntimeError as error:
        if _LOST.search(str(error)):
            raise ProcessLostError("another process of this run has ended: its output says why") from error
        raise
    finally:
        _SHARED_MEMORY.reset(before)
        dist.destroy_process_group()


def _shared_memory() -> SharedMemory | None:
    """Memory shared by the processes of the group, where all are on this machine."""
    if local_size() < world_size():
        return None
    try:
        return SharedMemory()
    except OSError as error:
        logging.getLogger(__name__).info("note: the processes share no memory, they exchange by sockets: %s", error)
        return None


@contextmanager
def single_process() -> Iterator[None]:
    """A context in which this process is a group of its own: nothing in it communicates."""
    before = _SINGLE.set(True)
    try:
        yield
    finally:
        _SINGLE.reset(before)


def sharing(rows: int) -> AbstractContextManager[None]:
    """A context in which processes share rows; with fewer rows than processes, each takes all of them."""
    return nullcontext() if rows >= world_size() else single_process()


@contextmanager
def first_process_first() -> Iterator[None]:
    """A context that the first process runs through before the others, each as a `single_process`.

    What the first process leaves in a cache on disk the others then read.
    """
    first = is_first()
    if not first:
        barrier()
    with single_process():
        yield
    if first:
        barrier()


def barrier() -> None:
    """A point at which each process waits until all have reached it."""
    if world_size() > 1:
        dist.all_reduce(torch.zeros(1))  # takes a third of dist.barrier's processor time


def broadcast(value: Any) -> Any:
    """The first process's plain value, in every process."""
    if world_size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def any_process(flag: bool) -> bool:
    """Whether the flag is set in any process; the same in all of them."""
    if world_size() == 1:
        return flag
    return bool(total(torch.tensor(float(flag))))


def total(value: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The sum of the processes' values, without gradient; in place."""
    if world_size() > 1:
        dist.all_reduce(value)
    return value


def empty_in_common(shape: Sequence[int], like: Tensor) -> Tensor | None:
    """A tensor that all processes have in common, with any numbers and the type of `like`; all call it together.

    What one writes the others read after the next exchange or barrier. None where they share no memory.
    """
    memory = _SHARED_MEMORY.get() if world_size() > 1 else None
    return memory.empty(shape, like.dtype) if memory and like.device.type == "cpu" else None


def forget_common() -> None:
    """Give the memory of tensors in common back, each as soon as its tensor is gone; all processes call it together."""
    if memory := _SHARED_MEMORY.get():
        memory.forget()


def share_slices(whole: Shaped[Tensor, " rows *rest"], bounds: Sequence[int]) -> None:
    """Fill the rows of the other processes in: process p has those from `bounds[p]` to `bounds[p + 1]`."""
    if (memory := _SHARED_MEMORY.get()) and whole.device.type == "cpu":
        memory.share_slices(whole, bounds)
        return
    pairs = itertools.pairwise(bounds)
    sent = [dist.broadcast(whole[start:stop], src=p, async_op=True) for p, (start, stop) in enumerate(pairs)]
    for one in sent:
        one.wait()


def all_to_all(
    values: Shaped[Tensor, " sent *rest"], counts: Sequence[int]
) -> tuple[Shaped[Tensor, " received *rest"], list[int]]:
    """Send `counts[p]` rows to process p, in order; the rows sent to this process, in order, and their counts."""
    if (memory := _SHARED_MEMORY.get()) and values.device.type == "cpu":
        return memory.all_to_all(values, counts)
    sent = torch.tensor(counts, device=values.device)
    from_each = torch.empty_like(sent)
    dist.all_to_all_single(from_each, sent)
    received = values.new_empty(int(from_each.sum()), *values.shape[1:])
    dist.all_to_all_single(received, values.contiguous(), from_each.tolist(), list(counts))
    return received, from_each.tolist()


def numbers_of_all(numbers: Sequence[int]) -> list[list[int]]:
    """The numbers of each process, as many in all of them."""
    of_all = torch.zeros(world_size(), len(numbers), dtype=torch.int64)
    of_all[rank()] = torch.tensor(numbers)
    dist.all_reduce(of_all)
    found: list[list[int]] = of_all.tolist()
    return found


def gather_at_first(own: Shaped[Tensor, " own *rest"], bounds: Sequence[int]) -> Shaped[Tensor, " rows *rest"] | None:
    """All rows, in the first process alone: process p has those from `bounds[p]` to `bounds[p + 1]`."""
    if not is_first():
        dist.send(own.contiguous(), dst=0)
        return None
    whole = own.new_empty(bounds[-1], *own.shape[1:])
    whole[: bounds[1]] = own
    for p in range(1, world_size()):
        dist.recv(whole[bounds[p] : bounds[p + 1]], src=p)
    return whole


def local_rows(rows: Shaped[Tensor, " rows *rest"]) -> Shaped[Tensor, " own *rest"]:
    """This process's rows: a contiguous part, of the same length in all processes or one row longer."""
    return torch.tensor_split(rows, world_size())[rank()]


def all_gather(own: Float[Tensor, "own dim"], rows: int) -> Float[Tensor, "rows dim"]:
    """The vectors of all `rows` rows, in order, in every process; `own` are those of this process's `local_rows`.

    The gradient of `own` is the sum of the gradients that all processes' losses have for it. A loss that all processes
    compute alike thus gives it `world_size()` times, which the mean of `average_gradients` cancels.
    """
    return own if world_size() == 1 else cast(Tensor, _Gather.apply(own, rows))  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, rows: int) -> Tensor:
        counts = [len(part) for part in torch.tensor_split(torch.empty(rows), world_size())]
        bounds = [0, *itertools.accumulate(counts)]
        ctx.own = slice(bounds[rank()], bounds[rank() + 1])
        whole = own.new_empty(rows, *own.shape[1:])
        whole[ctx.own] = own
        share_slices(whole, bounds)
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total[ctx.own], None


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each parameter's gradient by its mean over all processes; one that no process has stays None."""
    if world_size() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    has = torch.tensor([parameter.grad is not None for parameter in trained], dtype=torch.int32)
    dist.all_reduce(has, op=dist.ReduceOp.MAX)
    with_gradient = [parameter for parameter, flag in zip(trained, has.tolist(), strict=True) if flag]
    if not with_gradient:
        return
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in with_gradient]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= world_size()
    for parameter, part in zip(with_gradient, torch.split(flat, [one.numel() for one in with_gradient]), strict=True):
        parameter.grad = part.view_as(parameter)


def average_values(values: Mapping[str, float]) -> dict[str, float]:
    """The mean over all processes of each named number."""
    if world_size() == 1:
        return dict(values)
    total = torch.tensor(list(values.values()), dtype=torch.float64)
    dist.all_reduce(total)
    return dict(zip(values, (total / world_size()).tolist(), strict=True))


def synchronize_generator(generator: torch.Generator) -> None:
    """Set the generator to the state of the first process's: what a loss draws depends on the process's rows."""
    if world_size() > 1:
        state = generator.get_state()
        dist.broadcast(state, src=0)
        generator.set_state(state)
