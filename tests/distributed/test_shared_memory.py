"""Rows that processes of one machine exchange through shared memory, beside what gloo's sockets bring."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

import pytest
import torch
import torch.distributed as dist

from lmm4rec.distributed import process_group
from lmm4rec.distributed.shared_memory import SharedMemory
from process_groups import in_group


def of_gloo(values: torch.Tensor, counts: Sequence[int]) -> tuple[torch.Tensor, list[int]]:
    """What `all_to_all` has to give, by torch."""
    received_counts = torch.zeros(len(counts), dtype=torch.int64)
    dist.all_to_all_single(received_counts, torch.tensor(counts))
    received = values.new_empty(int(received_counts.sum()), *values.shape[1:])
    dist.all_to_all_single(received, values, received_counts.tolist(), list(counts))
    return received, received_counts.tolist()


def exchange(half: int) -> None:
    memory, rank, processes = SharedMemory(half), dist.get_rank(), dist.get_world_size()
    generator = torch.Generator().manual_seed(rank)
    for turn, most in enumerate([0, 1, 5, 40, 2]):  # empty, within half a block, several times as much
        counts = torch.randint(most + 1, (processes,), generator=generator).tolist()
        values = torch.randn(sum(counts), 3, generator=generator)
        for sent in (values, (values[:, 0] * 1e6).long()):
            expected, received = memory.all_to_all(sent, counts), of_gloo(sent, counts)
            assert torch.equal(expected[0], received[0])
            assert expected[1] == received[1]
        bounds = [0, 7 * turn, 7 * turn + 2, 11 * turn + 2][: processes + 1]
        whole = torch.arange(bounds[-1] * 5).view(-1, 5)
        own = torch.zeros_like(whole)
        start, stop = bounds[rank : rank + 2]
        own[start:stop] = whole[start:stop]
        memory.share_slices(own, bounds)
        assert torch.equal(own, whole)


def with_it() -> None:
    for half in (64, 2**16):
        exchange(half)
    group_uses_it()
    in_common()


def in_common() -> None:
    """A tensor of all processes: what each writes the others read, and its memory waits for the last that has it."""
    memory, rank = SharedMemory(64), dist.get_rank()
    first = memory.empty([3, 5], torch.float32)
    assert first is not None
    first[rank] = float(rank)
    dist.barrier()
    assert first[:, 4].tolist() == [0.0, 1.0, 2.0]
    place, kept = first.data_ptr(), first[1:] if rank == 1 else None
    del first
    other = memory.empty([3, 5], torch.float32)
    assert other is not None
    assert other.data_ptr() != place  # one process still reads
    del kept
    again = memory.empty([14], torch.float32)
    assert again is not None
    assert again.data_ptr() == place
    assert memory.empty([0, 5], torch.float32) is None
    memory._calls += 100
    large = memory.empty([3, 2**18], torch.int64)
    assert len(memory._common) == 1  # the small ones were not used for long, and go with their tensors
    again[rank] = 7.0
    dist.barrier()
    assert again[:3].tolist() == [7.0] * 3
    assert large is not None
    if rank == 0:  # it takes the memory, the others open it
        os.posix_fallocate = _refused
    assert memory.empty([3, 2**20], torch.int64) is None  # not in the memory of small ones
    own = torch.full((3,), rank)
    memory.share_slices(own, [0, 1, 2, 3])
    assert own.tolist() == [0, 1, 2]


def group_uses_it() -> None:
    """The exchanges of CPU tensors pass nothing through torch but barriers of one number."""
    sent: list[int] = []
    all_reduce, dist.broadcast = dist.all_reduce, None  # type: ignore[assignment]

    def counted(tensor: torch.Tensor) -> None:
        sent.append(tensor.numel())
        all_reduce(tensor)

    dist.all_reduce = counted  # type: ignore[assignment]
    rank, processes = process_group.rank(), process_group.world_size()
    values, counts = process_group.all_to_all(torch.full((processes, 2), float(rank)), [1] * processes)
    assert values[:, 0].tolist() == list(range(processes))
    assert counts == [1] * processes
    whole = torch.full((processes,), float(rank))
    process_group.share_slices(whole, list(range(processes + 1)))
    assert whole.tolist() == list(range(processes))
    assert sent == [1, 1]


def without_it() -> None:
    """One process that cannot have the memory: all of them say so, and exchange through sockets."""
    if process_group.rank() == 1:
        os.posix_fallocate = _refused
    records: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("lmm4rec.distributed.process_group").addHandler(handler)
    logging.getLogger("lmm4rec.distributed.process_group").setLevel(logging.INFO)
    process_group._SHARED_MEMORY.set(process_group._shared_memory())
    values, counts = process_group.all_to_all(torch.full((2, 2), float(process_group.rank())), [1, 1])
    assert values[:, 0].tolist() == [0.0, 1.0]
    assert counts == [1, 1]
    assert records == ["note: the processes share no memory, they exchange by sockets: no room"]


def _refused(*_: int) -> None:
    raise OSError("no room")


@pytest.mark.long
def test_it_gives_what_sockets_give() -> None:
    in_group(3, with_it)


@pytest.mark.long
def test_without_it_the_processes_say_so_and_use_sockets() -> None:
    in_group(2, without_it)
