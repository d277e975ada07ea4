"""Sharding of tables by rows: which process owns which rows, and the exchange of rows between asker and owner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
import torch.distributed as dist
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from lmm4rec.distributed import process_group

_SHARDED = ContextVar("lmm4rec_sharded_rows", default=False)


@contextmanager
def sharded_rows(active: bool) -> Iterator[None]:
    """A context in which, where it is `active`, models built by several processes share tables and graphs by rows."""
    before = _SHARDED.set(active)
    try:
        yield
    finally:
        _SHARDED.reset(before)


def is_sharded() -> bool:
    """Whether tables and graphs that are built here are shared by rows."""
    return _SHARDED.get() and process_group.world_size() > 1


def equal_bounds(rows: int) -> list[int]:
    """Where the ranges of rows of the processes begin and end: all of one length, the last ones shorter."""
    length = range_length(rows)
    return [min(p * length, rows) for p in range(process_group.world_size() + 1)]


def range_length(rows: int) -> int:
    """The number of rows in a process's range of `equal_bounds`, at most."""
    return -(-rows // process_group.world_size())


def balanced_bounds(counts: Int[Tensor, " rows"]) -> list[int]:
    """As `equal_bounds`, with ranges of about the same sum of `counts`."""
    sums, parts = counts.cumsum(0), process_group.world_size()
    wanted = torch.arange(1, parts, device=sums.device) * (int(sums[-1]) if len(sums) else 0) / parts
    return [0, *torch.searchsorted(sums, wanted, right=False).tolist(), len(counts)]


class RowExchange:
    """An exchange of rows of a table, of which each process owns a range of `equal_bounds`.

    All processes of the group have to take part in each exchange, in the same order.
    """

    def __init__(self, asked: Int[Tensor, " asked"], rows: int) -> None:
        """`asked` are the rows that this process needs, sorted and distinct, of a table of `rows` rows."""
        length, parts = range_length(rows), process_group.world_size()
        asked_of = torch.bincount(asked // length, minlength=parts)
        wanted_by = torch.empty_like(asked_of)
        dist.all_to_all_single(wanted_by, asked_of)
        self._asked_of, self._wanted_by = asked_of.tolist(), wanted_by.tolist()
        self.own = self.to_owners(asked) - process_group.rank() * length
        """The rows that this process is asked for, as places in its range; grouped by the process that asks."""

    def to_owners(self, values: Shaped[Tensor, asked * rest]) -> Shaped[Tensor, own * rest]:
        """The values that the processes have for rows of this one's range."""
        received = values.new_empty(sum(self._wanted_by), *values.shape[1:])
        dist.all_to_all_single(received, values.contiguous(), self._wanted_by, self._asked_of)
        return received

    def to_askers(self, values: Float[Tensor, own * rest]) -> Float[Tensor, asked * rest]:
        """The values that the owners have for the rows that this process asked for."""
        received = values.new_empty(sum(self._asked_of), *values.shape[1:])
        dist.all_to_all_single(received, values.contiguous(), self._asked_of, self._wanted_by)
        return received
