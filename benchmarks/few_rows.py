"""What decision 50 made quicker, in turn: dot products of rows with few others, and updates of a large table's rows.

    python benchmarks/few_rows.py

Medians of 20, one thread, in milliseconds. Dot products: 2,048 rows of 64 numbers, as a batch of matrix products and as
sums of products, with the gradient. Updates: reading, gradient and Adam's step of 32,768 rows of a table of 2 million,
by PyTorch and by the loop that Numba compiles.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from unittest.mock import patch

import torch
from torch import Tensor

from _results import write
from lmm4rec.core.matrices import dot_each
from lmm4rec.core.memory import keep_freed_memory
from lmm4rec.nn.tables import Table
from lmm4rec.training.optim import compiled_rows
from lmm4rec.training.optim.adam import Adam, clip_gradients

ROUNDS, WARM, DIM = 20, 3, 64


def in_turn(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The median milliseconds of each."""
    spent: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(WARM + ROUNDS):
        for name, work in works.items():
            start = time.perf_counter()
            work()
            spent[name].append(1000 * (time.perf_counter() - start))
    return {name: round(statistics.median(each[WARM:]), 2) for name, each in spent.items()}


def dots(others: int) -> dict[str, float]:
    """A batch's dot products by both ways."""
    rows = torch.randn(2048, DIM, requires_grad=True)
    own = torch.randn(2048, others, DIM, requires_grad=True)
    ways: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "matrix products": lambda a, b: torch.einsum("bd,bnd->bn", a, b),
        "sums": dot_each,
    }
    return in_turn({name: lambda way=way: way(rows, own).sum().backward() for name, way in ways.items()})  # type: ignore[misc]


def updates() -> dict[str, float]:
    """A step of a large table by both ways."""

    def stepping(numba: bool) -> Callable[[], None]:
        table, generator = Table(torch.randn(2_000_000, DIM)), torch.Generator().manual_seed(0)
        adam = Adam([{"params": [table], "lr": 1e-3, "weight_decay": 0.0}])

        def step() -> None:
            rows = torch.randint(len(table), (32_768,), generator=generator)
            with patch.object(compiled_rows, "has_numba", lambda: numba):
                adam.zero_grad()
                table.rows(rows).sum().backward()  # type: ignore[no-untyped-call]
                clip_gradients([table], 0.0)
                adam.step()

        return step

    return in_turn({"PyTorch": stepping(False), "Numba": stepping(True)})


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep_freed_memory()
    write("few_rows", {"dot products": {str(count): dots(count) for count in (1, 2, 4, 8, 16)}, "updates": updates()})
