"""Trained tables, such as the vectors of all users, of which a batch needs few rows."""

from __future__ import annotations

from typing import Any, Protocol, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.matrices import select_rows


class DefersRows(Protocol):
    """An optimizer that updates only the rows that a batch reads, and the other rows before they are next read."""

    def before_rows(self, table: Table, rows: Int[Tensor, " rows"]) -> bool:
        """Bring the rows up to date and record them; whether their gradient should be sparse."""
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
        sparse = False
        if self.optimizer is not None and torch.is_grad_enabled():
            sparse = self.optimizer.before_rows(self, torch.cat([each.flatten() for each in indices]))
        elif self.optimizer is not None:
            self.optimizer.before_all(self)
        selected = [F.embedding(each, self, sparse=True) if sparse else select_rows(self, each) for each in indices]
        return selected[0] if len(selected) == 1 else tuple(selected)

    def all(self) -> Float[Tensor, "rows dim"]:  # type: ignore[override]
        """The whole table."""
        if self.optimizer is not None:
            self.optimizer.before_all(self)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Table:
        copied: Table = super(Table, self.all()).__deepcopy__(memo)  # type: ignore[misc]
        return copied


def normal_table(rows: int, dim: int, generator: torch.Generator, *, std: float) -> Table:
    """A table [rows, dim] drawn from a normal distribution with mean 0."""
    return Table(torch.randn(rows, dim, generator=generator) * std)


def xavier_table(rows: int, dim: int, generator: torch.Generator) -> Table:
    """A table [rows, dim] drawn from a normal distribution with variance 2 / (rows + dim) (Glorot and Bengio 2010)."""
    return normal_table(rows, dim, generator, std=(2.0 / (rows + dim)) ** 0.5)


def node_table(users: int, items: int, dim: int, generator: torch.Generator) -> Table:
    """A table [users + items, dim]: a Xavier table of users above one of items."""
    return Table(torch.cat([xavier_table(count, dim, generator).detach() for count in (users, items)]))
