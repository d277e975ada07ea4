"""The product of a sparse matrix with a dense one, without gradient: the inner loop of all graph models."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from lmm4rec.core.compiled import compiled, has_numba, in_threads, is_plain

_LARGE = 24_000_000  # multiplications; in smaller products threads lose what they gain
_WIDE = 96  # columns from which PyTorch's product is slow
_BEYOND_CACHE = 2**25  # bytes of the dense matrix from which it is slow at fewer columns, too
_PIECES = 12  # for each thread: rows with as many entries take unequal time


def product(matrix: Tensor, dense: Float[Tensor, "columns dim"]) -> Float[Tensor, "rows dim"]:
    """The product of a CSR matrix with a dense one, without gradient."""
    return product_into(dense.new_empty(matrix.shape[0], dense.shape[1]), matrix, dense)


def product_into(
    result: Float[Tensor, "rows dim"], matrix: Tensor, dense: Float[Tensor, "columns dim"]
) -> Float[Tensor, "rows dim"]:
    """Fill `result` with the product of a CSR matrix and a dense one.

    Large products on a CPU, of many columns or beyond its cache, are computed by a loop that Numba compiles, where it
    is installed; the sums are those of PyTorch but for rounding. PyTorch's is computed in the memory of the result,
    too: `matrix @ dense` takes three times as long, in copies.
    """
    if not (_is_worth(matrix, dense) and has_numba() and all(map(is_plain, (result, matrix.values(), dense)))):
        return torch.addmm(result, matrix, dense, beta=0, out=result)
    sides = (matrix.crow_indices(), matrix.col_indices(), matrix.values(), dense, result)
    arrays = [side.detach().numpy() for side in sides]
    threads, starts = torch.get_num_threads(), arrays[0]
    pieces = 1 if threads == 1 else _PIECES * threads
    inner = np.searchsorted(starts, np.linspace(0, starts[-1], pieces + 1)[1:-1]).tolist()
    cuts = [0, *inner, len(result)]  # of about the same number of entries
    in_threads(partial(_compiled_sums(), *arrays), cuts, threads)
    return result


def weighted_sums(
    starts: Int[np.ndarray, " rows_and_1"],
    columns: Int[np.ndarray, " entries"],
    values: Float32[np.ndarray, " entries"],
    dense: Float32[np.ndarray, "columns dim"],
    result: Float32[np.ndarray, "rows dim"],
    first: int,
    last: int,
) -> None:
    """Rows `first` to `last` of the result: for each row of a CSR matrix, the sum of its entries' rows of `dense`.

    Four entries are added at a time: their rows are read from memory together, which is what takes the time.
    """
    for row in range(first, last):
        entry, end, total = starts[row], starts[row + 1], result[row]
        total[:] = 0
        while entry + 4 <= end:
            a, b = dense[columns[entry]], dense[columns[entry + 1]]
            c, d = dense[columns[entry + 2]], dense[columns[entry + 3]]
            by_a, by_b, by_c, by_d = values[entry], values[entry + 1], values[entry + 2], values[entry + 3]
            for k in range(len(total)):
                total[k] += by_a * a[k] + by_b * b[k] + by_c * c[k] + by_d * d[k]
            entry += 4
        while entry < end:
            a, by_a = dense[columns[entry]], values[entry]
            for k in range(len(total)):
                total[k] += by_a * a[k]
            entry += 1


@cache
def _compiled_sums() -> Callable[..., Any]:
    return compiled(weighted_sums, purpose="products of sparse matrices", fastmath=["contract"])


def _is_worth(matrix: Tensor, dense: Tensor) -> bool:
    """Whether the compiled loop is faster: sizes alone decide, so that a resumed training computes as before."""
    is_slow = dense.shape[1] >= _WIDE or dense.nbytes >= _BEYOND_CACHE
    return is_slow and len(matrix.values()) * dense.shape[1] >= _LARGE
