"""Tensors passed between the processes of one machine through memory that they share."""

from __future__ import annotations

import itertools
import logging
import math
import mmap
import os
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from jaxtyping import Shaped, UInt8
from torch import Tensor

_HALF = 2**23  # bytes that a process puts out between two barriers; they stay in the processor's cache
_MOST_PROCESSES = 512
_RECENT = 100  # tensors in common after which memory that none of them took is given back


@dataclass
class _Common:
    """Memory of a tensor that all processes have in common; free once the tensor is gone in all of them."""

    memory: mmap.mmap
    held_by: Callable[[], memoryview | None] = lambda: None
    used: int = 0  # at which call of `empty`


class SharedMemory:
    """A block of memory of each process of a group on one machine, which all others read.

    It is for CPU tensors. gloo sends them through sockets, which costs several times as much as the two copies here. A
    block has two halves that are written in turn: who has passed a barrier has read what was there two barriers before.

    The blocks are files without a name (`memfd_create` of Linux): they are gone with the processes, however these end,
    and the limit of /dev/shm does not apply.

    Beside these blocks there is memory for tensors that all processes have in common (`empty`), of which nothing is
    copied at all.
    """

    def __init__(self, half: int = _HALF) -> None:
        """All processes of the default group open it together; `half` is in bytes, a multiple of 8.

        Raises:
            OSError: in every process, where one cannot have the memory or read that of another.
        """
        self._half, self._turn, self._barrier = half, 0, torch.zeros(1)
        self._rank = dist.get_rank()
        blocks = _open_by_all(8 * _MOST_PROCESSES * 2 + 2 * half, range(dist.get_world_size()))
        halves = [torch.frombuffer(block, dtype=torch.uint8).view(2, -1) for block in blocks]
        self._sizes = [half[:, : 8 * _MOST_PROCESSES].view(torch.int64)[:, : len(blocks)] for half in halves]
        """Of a process's two halves: the bytes in them for each process."""
        self._halves = [half[:, 8 * _MOST_PROCESSES :] for half in halves]
        self._common, self._calls, self._is_full = list[_Common](), 0, False

    def empty(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor | None:
        """A tensor of that shape that all processes have in common; they call it together. Its numbers are any.

        After the next barrier, or exchange, each reads what the others wrote: nothing is copied. None may write what
        another may read. The memory is used again once the tensor is gone in all processes. None in all of them where
        one cannot have more memory, or where the shape has no numbers.
        """
        self._calls += 1
        size = _rounded(math.prod(shape) * dtype.itemsize)
        block = self._free_block(size) or self._new_block(size)
        if block is None:
            return None
        view = memoryview(block.memory)
        block.held_by, block.used = weakref.ref(view), self._calls
        return torch.frombuffer(view, dtype=dtype, count=math.prod(shape)).view(*shape)

    def forget(self) -> None:
        """Use no memory of tensors again: each is given back with its tensor. All processes call it together."""
        self._common.clear()

    def all_to_all(
        self, values: Shaped[Tensor, " sent *rest"], counts: Sequence[int]
    ) -> tuple[Shaped[Tensor, " received *rest"], list[int]]:
        """Send `counts[p]` rows to process p, in order; the rows sent to this process, in order, and their counts."""
        row = values.element_size() * values.shape[1:].numel()
        parts = torch.split(_bytes(values.contiguous()), [count * row for count in counts])
        others = [part[:0] if process == self._rank else part for process, part in enumerate(parts)]
        self._put(others, 0)
        sizes = [self._sizes[process][self._turn].tolist() for process in range(len(parts))]
        received = [one[self._rank] for one in sizes]
        received[self._rank] = len(parts[self._rank])
        result = values.new_empty(sum(received) // row, *values.shape[1:])
        targets = torch.split(_bytes(result), received)
        targets[self._rank].copy_(parts[self._rank])
        starts = [sum(one[: self._rank]) for one in sizes]
        for begin in range(0, max(map(sum, sizes)), self._half):
            if begin:
                self._put(others, begin)
            self._get(targets, starts, begin)
        return result, [size // row for size in received]

    def share_slices(self, whole: Shaped[Tensor, " rows *rest"], bounds: Sequence[int]) -> None:
        """Fill the rows of the other processes in: process p has those from `bounds[p]` to `bounds[p + 1]`."""
        parts = [_bytes(whole[start:stop]) for start, stop in itertools.pairwise(bounds)]
        for begin in range(0, max(map(len, parts)), self._half):
            self._put([parts[self._rank]], begin)
            self._get(parts, [0] * len(parts), begin)

    def _put(self, parts: Sequence[UInt8[Tensor, " _bytes"]], begin: int) -> None:
        """Write the bytes of all parts, in order, from `begin` on, as many as fit; wait for all processes."""
        self._turn = 1 - self._turn
        target, start = self._halves[self._rank][self._turn], -begin
        for part in parts:
            first, last = max(start, 0), min(start + len(part), self._half)
            if first < last:
                target[first:last] = part[first - start : last - start]
            start += len(part)
        self._sizes[self._rank][self._turn, : len(parts)] = torch.tensor([len(part) for part in parts])
        dist.all_reduce(self._barrier)  # takes a third of dist.barrier's processor time

    def _get(self, targets: Sequence[UInt8[Tensor, " _bytes"]], starts: Sequence[int], begin: int) -> None:
        """Read each other process's bytes, which begin at its start, as far as its half holds them from `begin` on."""
        for process, (target, start) in enumerate(zip(targets, starts, strict=True)):
            first, last = max(start - begin, 0), min(start - begin + len(target), self._half)
            if process != self._rank and first < last:
                source = self._halves[process][self._turn]
                target[begin + first - start : begin + last - start] = source[first:last]

    def _free_block(self, size: int) -> _Common | None:
        """Memory of at least that size, not twice as much, that no process uses."""
        fitting = [block for block in self._common if size <= len(block.memory) <= 2 * size]
        if not fitting:
            return None
        holders = torch.tensor([float(block.held_by() is not None) for block in fitting])
        dist.all_reduce(holders)
        return next((block for block, held in zip(fitting, holders.tolist(), strict=True) if not held), None)

    def _new_block(self, size: int) -> _Common | None:
        """Memory of that size; none where a process cannot have it, or could not before."""
        if not size or self._is_full:
            return None
        self._common = [block for block in self._common if block.used > self._calls - _RECENT]
        try:
            (memory,) = _open_by_all(size, range(1))
        except OSError as error:
            logging.getLogger(__name__).info("note: no more shared memory, the processes copy: %s", error)
            self._is_full = True
            self.forget()
            return None
        self._common.append(_Common(memory))
        return self._common[-1]


def _rounded(size: int) -> int:
    """At least that size, in pages, and the same for sizes that differ little."""
    unit = 2 ** max(12, size.bit_length() - 3)
    return -(-size // unit) * unit


def _open_by_all(size: int, owners: Sequence[int]) -> list[mmap.mmap]:
    """A block of `size` bytes of each owner, in order; all processes call it together.

    Raises:
        OSError: in every process, where one cannot have the memory or read that of another.
    """
    errors = [""] * dist.get_world_size()
    try:
        blocks, error = _open_blocks(size, owners), ""
    except OSError as found:
        blocks, error = [], str(found)
    dist.all_gather_object(errors, error)
    if any(errors):
        raise OSError(next(filter(None, errors)))
    return blocks


def _open_blocks(size: int, owners: Sequence[int]) -> list[mmap.mmap]:
    """The owners' blocks, in order.

    Raises:
        OSError: one of them cannot be had or read.
    """
    own, error = -1, ""
    name = os.urandom(16)
    try:
        if dist.get_rank() in owners:
            own = os.memfd_create("lmm4rec")
            os.posix_fallocate(own, 0, size)
            os.pwrite(own, name, 0)
    except (OSError, AttributeError) as found:
        error = str(found)
    places: list[tuple[int, int, bytes, str]] = [(0, 0, b"", "")] * dist.get_world_size()
    dist.all_gather_object(places, (os.getpid(), own, name, error))
    blocks = []
    try:
        for pid, number, named, failed in [places[owner] for owner in owners]:
            if failed:
                raise OSError(failed)
            with Path(f"/proc/{pid}/fd/{number}").open("r+b") as file:
                blocks.append(mmap.mmap(file.fileno(), size))
            if blocks[-1][: len(named)] != named:
                raise ValueError("another file")
    except ValueError as found:
        raise OSError(f"process {pid} is of another machine or container ({found})") from None
    finally:
        dist.barrier()  # all have opened what they could
        if own >= 0:
            os.close(own)
    return blocks


def _bytes(values: Shaped[Tensor, "*shape"]) -> UInt8[Tensor, " _bytes"]:
    return values.view(-1).view(torch.uint8)
