"""Sharding of tables by rows: which process owns which rows, and the exchange of rows between asker and owner."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from jaxtyping import Float, Int
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


def balanced_bounds(counts: Int[Tensor, " rows"], parts: int) -> list[int]:
    """Where `parts` ranges of rows with about the same sum of `counts` begin and end."""
    sums = counts.cumsum(0)
    wanted = torch.arange(1, parts, device=sums.device) * (int(sums[-1]) if len(sums) else 0) / parts
    return [0, *torch.searchsorted(sums, wanted, right=False).tolist(), len(counts)]


class RowExchange:
    """An exchange of rows of a table, of which each process owns a range of `equal_bounds`.

    All processes of the group have to take part in each exchange, in the same order.
    """

    def __init__(self, asked: Int[Tensor, " asked"], rows: int) -> None:
        """`asked` are the rows that this process needs, sorted and distinct, of a table of `rows` rows."""
        length, parts = range_length(rows), process_group.world_size()
        self._asked_of = torch.bincount(asked // length, minlength=parts).tolist()
        received, self._wanted_by = process_group.all_to_all(asked, self._asked_of)
        self.wanted = received - process_group.rank() * length
        """The rows that this process is asked for, as places in its range; grouped by the process that asks."""
        self.own, self._places = torch.unique(self.wanted, return_inverse=True)
        """The same rows, sorted and distinct."""

    def sums(self, values: Float[Tensor, "asked dim"]) -> Float[Tensor, "own dim"]:
        """The sums of the values that the processes have for the rows `own`."""
        received, _ = process_group.all_to_all(values, self._asked_of)
        return received.new_zeros(len(self.own), received.shape[1]).index_add_(0, self._places, received)

    def answers(self, values: Float[Tensor, "wanted dim"]) -> Float[Tensor, "asked dim"]:
        """The values that the owners have for the rows that this process asked for, from theirs for `wanted`."""
        return process_group.all_to_all(values, self._wanted_by)[0]
