"""Sharding of tables by rows: which process owns which rows, and the exchange of rows between asker and owner."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
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
    """An exchange of rows of some tables, of each of which every process owns a range of `equal_bounds`.

    All processes of the group have to take part in each exchange, in the same order. The rows that a process owns, of
    all tables, are numbered one after the other, so that one exchange is enough. Where the processes share memory,
    owners put rows where the asker reads them, and read the gradients where the asker sums them.
    """

    def __init__(self, asked: Sequence[Int[Tensor, " _asked"]], totals: Sequence[int]) -> None:
        """`asked` are the rows that this process needs of each table, in any order; a table has `totals` rows."""
        lengths = [range_length(total) for total in totals]
        *self._starts, span = itertools.accumulate(lengths, initial=0)
        numbers = [
            rows // length * span + start + rows % length
            for rows, length, start in zip(asked, lengths, self._starts, strict=True)
        ]
        distinct, self._places = torch.unique(torch.cat(numbers), return_inverse=True)
        asked_of = torch.bincount(distinct // span, minlength=process_group.world_size()).tolist()
        received, self._wanted_by = process_group.all_to_all(distinct, asked_of)
        wanted = received - process_group.rank() * span
        own, places = torch.unique(wanted, return_inverse=True)
        self._own_places = torch.split(places, self._wanted_by)
        self._wanted = [self._by_table(one) for one in torch.split(wanted, self._wanted_by)]
        self.own = self._by_table(own)
        """The rows of each table that this process is asked for, as places in its range; sorted and distinct."""
        self._counts = process_group.numbers_of_all(asked_of)
        self._common: Tensor | None = None

    def rows(self, tables: Sequence[Float[Tensor, "_own dim"]]) -> Float[Tensor, "asked dim"]:
        """The rows that this process asked for, in that order, of one table after the other.

        The tables are the ranges that it owns, all of one width, type and device.
        """
        shape = len(self._counts), max(map(sum, self._counts)), tables[0].shape[1]
        self._common = process_group.empty_in_common(shape, tables[0])
        if self._common is None:
            own = tables[0].new_empty(sum(self._wanted_by), shape[-1])
            self._fill(torch.split(own, self._wanted_by), tables)
            answers = process_group.all_to_all(own, self._wanted_by)[0]
        else:
            self._fill(self._shares(self._common), tables)
            process_group.barrier()
            answers = self._common[process_group.rank()]
        return answers.index_select(0, self._places)

    def sums(self, values: Float[Tensor, "asked dim"]) -> list[Float[Tensor, "_own dim"]]:
        """The sums of the processes' values for the rows `own` of each table; `values` are ordered as those of `rows`.

        All processes have called `rows` before.
        """
        asked_of, common = self._counts[process_group.rank()], self._common
        self._common = None  # the next exchange may use the memory
        if common is None:
            answers = values.new_zeros(sum(asked_of), values.shape[1]).index_add_(0, self._places, values)
            received = list(torch.split(process_group.all_to_all(answers, asked_of)[0], self._wanted_by))
        else:
            answers = common[process_group.rank(), : sum(asked_of)].zero_()
            answers.index_add_(0, self._places, values)
            process_group.barrier()
            received = self._shares(common)
        sums = values.new_zeros(sum(map(len, self.own)), values.shape[1])
        for places, part in zip(self._own_places, received, strict=True):
            sums.index_add_(0, places, part)
        return list(torch.split(sums, [len(rows) for rows in self.own]))

    def _by_table(self, numbers: Int[Tensor, " numbers"]) -> list[Int[Tensor, " _rows"]]:
        """The rows of each table that have ascending numbers."""
        starts = torch.tensor(self._starts[1:], dtype=numbers.dtype, device=numbers.device)
        parts = torch.tensor_split(numbers, torch.searchsorted(numbers, starts).tolist())
        return [part - start for part, start in zip(parts, self._starts, strict=True)]

    def _shares(self, common: Float[Tensor, "processes largest dim"]) -> list[Float[Tensor, "_wanted dim"]]:
        """The rows that each process asked this one for, in memory that all have in common."""
        own = process_group.rank()
        starts = [sum(counts[:own]) for counts in self._counts]
        return [
            rows[start : start + counts[own]] for rows, start, counts in zip(common, starts, self._counts, strict=True)
        ]

    def _fill(
        self, targets: Sequence[Float[Tensor, "_wanted dim"]], tables: Sequence[Float[Tensor, "_own dim"]]
    ) -> None:
        """Write what each process asked for into its target."""
        for target, wanted in zip(targets, self._wanted, strict=True):
            parts = torch.split(target, [len(rows) for rows in wanted])
            for table, rows, part in zip(tables, wanted, parts, strict=True):
                torch.index_select(table, 0, rows, out=part)
