"""Trained tables, such as the vectors of all users, of which a batch needs few rows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, cast, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.core.matrices import select_rows
from lmm4rec.distributed import batch_rows, process_group, sharding

_DRAWN_ROWS = 2**16  # drawn at once for a sharded table; a multiple of 16 rows is drawn as in one piece
_VECTOR = 16  # numbers that torch draws together


class DefersRows(Protocol):
    """An optimizer that updates only the rows that a batch reads, and the other rows before they are next read."""

    def defers_rows(self, table: Table, rows: int) -> bool:
        """Whether the gradient of `rows` more rows should be sparse; if not, all rows have been brought up to date."""
        ...

    def before_rows(self, table: Table, rows: Int[Tensor, " rows"]) -> None:
        """Bring ascending, distinct rows up to date, whose gradient will be sparse."""
        ...

    def before_all(self, table: Table) -> None:
        """Bring all rows up to date; the gradient of the table will be dense."""
        ...


class Table(nn.Parameter):
    """A trained matrix [rows, dim], read by `rows` and `all`.

    It is a parameter like any other (name, state dict, device, copies), and where no optimizer defers rows, as on a
    GPU, also in what it does. An optimizer that defers rows sets itself as `optimizer`; until it removes itself, the
    table must be read by `rows` and `all` alone, which bring what they return up to date.
    """

    optimizer: DefersRows | None = None

    @overload
    def rows(self, index: Tensor, /) -> Tensor: ...

    @overload
    def rows(self, index: Tensor, other: Tensor, /, *more: Tensor) -> tuple[Tensor, ...]: ...

    def rows(self, *indices: Int[Tensor, ...]) -> Float[Tensor, ...] | tuple[Float[Tensor, ...], ...]:
        """The rows at an index of any shape, [*shape, dim]; a tuple of them for several indices.

        Their gradient is sparse where the optimizer asks for that: it then costs what the rows cost, not the table.
        """
        selected = self._rows(indices)
        return selected[0] if len(selected) == 1 else selected

    def all(self) -> Float[Tensor, "rows dim"]:  # type: ignore[override]
        """The whole table."""
        if self.optimizer is not None:
            self.optimizer.before_all(self)
        return self

    def assign(self, values: Float[Tensor, "rows dim"]) -> None:
        """Replace all numbers of the table."""
        self.copy_(values)

    def _rows(self, indices: Sequence[Int[Tensor, ...]]) -> tuple[Float[Tensor, ...], ...]:
        together = _flat(indices)
        if self._defers(len(together)):
            distinct, places = torch.unique(together, return_inverse=True)
            self._catch_up(distinct)
            return _shaped(select_rows(cast(Tensor, _Rows.apply(self, distinct)), places), indices)  # type: ignore[no-untyped-call]
        return _shaped(select_rows(self, together), indices)

    def _defers(self, rows: int) -> bool:
        """Whether the gradient of `rows` more rows should be sparse; if not, all rows are up to date."""
        if self.optimizer is not None and torch.is_grad_enabled():
            return self.optimizer.defers_rows(self, rows)
        if self.optimizer is not None:
            self.optimizer.before_all(self)
        return False

    def _catch_up(self, rows: Int[Tensor, " rows"]) -> None:
        assert self.optimizer is not None
        self.optimizer.before_rows(self, rows)

    def __deepcopy__(self, memo: dict[int, Any]) -> Table:
        copied: Table = super(Table, self.all()).__deepcopy__(memo)  # type: ignore[misc]
        return copied


class ShardedTable(Table):
    """A table of `total` rows of which this process holds, and trains, a range: those of `sharding.equal_bounds`.

    It is read like any other, by all processes together. As a tensor it is the range alone. Each process may read other
    rows: these are exchanged with their owners, and so is their gradient. The whole table is gathered in all processes;
    there its gradient has to be the same in each, which it is where all compute the losses of the same batch.

    A row's gradient is the mean of the processes', as that of other parameters (`average_gradients`).
    """

    total: int

    @property
    def bounds(self) -> list[int]:
        """Where the ranges of the processes begin and end."""
        return sharding.equal_bounds(self.total)

    @property
    def range(self) -> slice:
        """The rows of this process."""
        return slice(*self.bounds[process_group.rank() :][:2])

    def all(self) -> Float[Tensor, "rows dim"]:  # type: ignore[override]
        """The whole table; it may be in memory that the processes have in common, and must not be changed.

        Raises:
            TrainingError: the processes share a batch, so that its gradient would differ.
        """
        batch_rows.require_whole_batch("a whole table")
        return cast(Tensor, _Gathered.apply(super().all(), self))  # type: ignore[no-untyped-call]

    def assign(self, values: Float[Tensor, "rows dim"]) -> None:
        """Replace the numbers of this process's rows by theirs in the whole table."""
        self.copy_(values[self.range])

    def _rows(self, indices: Sequence[Int[Tensor, ...]]) -> tuple[Float[Tensor, ...], ...]:
        return _exchanged_rows([(self, *indices)])[0]

    def _prepare(self, own: Int[Tensor, " own"]) -> bool:
        """Bring rows up to date that are asked for; whether their gradient should be sparse."""
        is_sparse = self._defers(len(own))
        if is_sparse:
            self._catch_up(own)
        return is_sparse


class _Rows(torch.autograd.Function):
    """Distinct, ascending rows of a table, with a sparse gradient."""

    @staticmethod
    def forward(ctx: Any, table: Table, rows: Tensor) -> Tensor:
        ctx.rows, ctx.shape = rows, table.shape
        return table.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _sparse(ctx.rows, gradients[0], ctx.shape), None


def _sparse(rows: Tensor, values: Tensor, shape: torch.Size) -> Tensor:
    """A gradient with these values in ascending rows."""
    return torch.sparse_coo_tensor(rows[None], values, shape, check_invariants=False, is_coalesced=True)


class _Exchanged(torch.autograd.Function):
    """The rows of sharded tables that an exchange asks for."""

    @staticmethod
    def forward(ctx: Any, exchange: sharding.RowExchange, are_sparse: Sequence[bool], *tables: ShardedTable) -> Tensor:
        ctx.exchange, ctx.are_sparse, ctx.shapes = exchange, are_sparse, [table.shape for table in tables]
        return exchange.rows(tables)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        found = list[Tensor | None]([None, None])
        sums = ctx.exchange.sums(gradients[0])
        for rows, values, shape, is_sparse in zip(ctx.exchange.own, sums, ctx.shapes, ctx.are_sparse, strict=True):
            mean = values.div_(process_group.world_size())
            found.append(_sparse(rows, mean, shape) if is_sparse else mean.new_zeros(shape).index_copy_(0, rows, mean))
        return tuple(found)


class _Gathered(torch.autograd.Function):
    """The whole of a sharded table."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, table: ShardedTable) -> Tensor:
        ctx.range = table.range
        shape = table.total, *own.shape[1:]
        common = process_group.empty_in_common(shape, own)
        whole = own.new_empty(shape) if common is None else common
        whole[ctx.range] = own
        if common is None:
            process_group.share_slices(whole, table.bounds)
        else:
            process_group.barrier()
        return whole

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0][ctx.range], None


def rows_of_tables(*asked: tuple[Table, *tuple[Int[Tensor, ...], ...]]) -> tuple[Float[Tensor, ...], ...]:
    """The rows of several tables, each with its indices of any shape: a tensor [*shape, dim] for each index.

    It is `Table.rows` of one after the other, but sharded tables of one width are exchanged at once.
    """
    found = dict[int, tuple[Tensor, ...]]()
    by_width = dict[int, list[int]]()
    for number, (table, *indices) in enumerate(asked):
        if isinstance(table, ShardedTable):
            by_width.setdefault(table.shape[1], []).append(number)
        else:
            found[number] = table._rows(indices)
    for numbers in by_width.values():
        found |= zip(numbers, _exchanged_rows([asked[number] for number in numbers]), strict=True)
    return tuple(itertools.chain.from_iterable(found[number] for number in range(len(asked))))


def _exchanged_rows(asked: Sequence[tuple[Any, ...]]) -> list[tuple[Float[Tensor, ...], ...]]:
    """The rows of each of several sharded tables, which have one width, at its indices."""
    tables, flat = [table for table, *_ in asked], [_flat(indices) for _, *indices in asked]
    exchange = sharding.RowExchange(flat, [table.total for table in tables])
    are_sparse = [table._prepare(own) for table, own in zip(tables, exchange.own, strict=True)]
    vectors = cast(Tensor, _Exchanged.apply(exchange, are_sparse, *tables))  # type: ignore[no-untyped-call]
    parts = torch.split(vectors, [len(each) for each in flat])
    return [_shaped(part, indices) for part, (_, *indices) in zip(parts, asked, strict=True)]


def _flat(indices: Sequence[Int[Tensor, ...]]) -> Int[Tensor, " all"]:
    return torch.cat([index.flatten() for index in indices])


def _shaped(vectors: Float[Tensor, "all dim"], indices: Sequence[Int[Tensor, ...]]) -> tuple[Float[Tensor, ...], ...]:
    """The vectors of all indices, apart: [*shape, dim] for each."""
    parts = torch.split(vectors, [index.numel() for index in indices])
    return tuple(part.view(*index.shape, vectors.shape[1]) for part, index in zip(parts, indices, strict=True))


def normal_table(rows: int, dim: int, generator: torch.Generator, *, std: float) -> Table:
    """A table [rows, dim] drawn from a normal distribution with mean 0; sharded within `sharding.sharded_rows`."""
    return _drawn([(rows, std)], dim, generator)


def xavier_table(rows: int, dim: int, generator: torch.Generator) -> Table:
    """A table [rows, dim] drawn from a normal distribution with variance 2 / (rows + dim) (Glorot and Bengio 2010)."""
    return _drawn([(rows, _xavier_std(rows, dim))], dim, generator)


def node_table(users: int, items: int, dim: int, generator: torch.Generator) -> Table:
    """A table [users + items, dim]: a Xavier table of users above one of items."""
    return _drawn([(rows, _xavier_std(rows, dim)) for rows in (users, items)], dim, generator)


def _xavier_std(rows: int, dim: int) -> float:
    return (2.0 / (rows + dim)) ** 0.5


def _drawn(parts: Sequence[tuple[int, float]], dim: int, generator: torch.Generator) -> Table:
    """A table of parts, each with its number of rows and its standard deviation.

    Of a sharded one, all numbers are drawn, block by block, and those of this process are kept.
    """
    if not sharding.is_sharded():
        drawn = [torch.randn(rows, dim, generator=generator) * std for rows, std in parts]
        return Table(drawn[0] if len(drawn) == 1 else torch.cat(drawn))
    total = sum(rows for rows, _ in parts)
    start, stop = sharding.equal_bounds(total)[process_group.rank() :][:2]
    own, first = torch.empty(stop - start, dim), 0
    for rows, std in parts:
        for block in _blocks(rows, dim):
            drawn_block = torch.randn(block, dim, generator=generator) * std
            kept = slice(max(start - first, 0), max(stop - first, 0))
            place = max(first - start, 0)
            own[place : place + len(drawn_block[kept])] = drawn_block[kept]
            first += block
    table = ShardedTable(own)
    table.total = total
    return table


def _blocks(rows: int, dim: int) -> Iterator[int]:
    """The numbers of rows of blocks; the last one is not so small that torch would draw it in another way."""
    while (rows - _DRAWN_ROWS) * dim >= _VECTOR:
        yield _DRAWN_ROWS
        rows -= _DRAWN_ROWS
    yield rows
