"""Adam's updates of some rows of a table, in place, compiled to machine code by Numba.

The rows lie anywhere in memory; to wait for each takes longer than all else. So a few rows are read first, together,
and are in the cache when they are updated; the functions return the sum of what they read, so that it is read. That
loop stands in both of them, since compiled code calls compiled code alone, and Numba is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from lmm4rec.core.compiled import compiled, has_numba, in_threads, is_plain

_FAST = {"contract"}
_TOGETHER, _LINE = 8, 16  # rows that are read before they are updated; numbers in a line of the cache
_LARGE = 2**25  # bytes of a table
_WORTH_THREADS = 2**19  # numbers in the rows from which several threads gain


def apply_missed(
    rows: Int64[np.ndarray, " rows"],
    last_step: Int64[np.ndarray, " table"],
    now: int,
    first_step: int,
    sums: Float64[np.ndarray, "2 steps"],
    betas: tuple[float, float],
    epsilon: float,
    weight: Float32[np.ndarray, "table dim"],
    mean: Float32[np.ndarray, "table dim"],
    square: Float32[np.ndarray, "table dim"],
    first: int,
    last: int,
) -> float:
    """`rows[first:last]` of a table brought up to step `now`; `last_step` are the steps of all rows.

    `sums` are those of `DeferredRows`, its equations are applied here.
    """
    seen = np.float32(0)
    for place in range(first, last):
        if (place - first) % _TOGETHER == 0:
            for row in rows[place : min(place + _TOGETHER, last)]:
                w, m, v = weight[row], mean[row], square[row]
                for k in range(0, len(w), _LINE):
                    seen += w[k] + m[k] + v[k]
        row = rows[place]
        since = last_step[row]
        if since == now:
            continue
        total = sums[0, since - first_step]
        scale = np.float32(total)
        small = np.float32(sums[1, since - first_step] / total if total > 0 else epsilon)
        of_mean, of_square = np.float32(betas[0] ** (now - since)), np.float32(betas[1] ** (now - since))
        w, m, v = weight[row], mean[row], square[row]
        for k in range(len(w)):
            w[k] -= scale * m[k] / (np.sqrt(v[k]) + small)
            m[k] *= of_mean
            v[k] *= of_square
        last_step[row] = now
    return float(seen)


def step_rows(
    rows: Int64[np.ndarray, " rows"],
    gradient: Float32[np.ndarray, "rows dim"],
    scale: np.float32,
    epsilon: np.float32,
    betas: tuple[float, float],
    last_step: Int64[np.ndarray, " table"],
    now: int,
    weight: Float32[np.ndarray, "table dim"],
    mean: Float32[np.ndarray, "table dim"],
    square: Float32[np.ndarray, "table dim"],
    first: int,
    last: int,
) -> float:
    """One step of Adam of `rows[first:last]`; `scale` and `epsilon` have the bias corrections in them."""
    of_square, of_gradient = np.float32(betas[1]), np.float32(1 - betas[0])
    of_gradients_square = np.float32(1 - betas[1])  # in single precision its relative error is 1e-5
    seen = np.float32(0)
    for place in range(first, last):
        if (place - first) % _TOGETHER == 0:
            for row in rows[place : min(place + _TOGETHER, last)]:
                w, m, v = weight[row], mean[row], square[row]
                for k in range(0, len(w), _LINE):
                    seen += w[k] + m[k] + v[k]
        row, g = rows[place], gradient[place]
        w, m, v = weight[row], mean[row], square[row]
        for k in range(len(w)):
            m[k] += of_gradient * (g[k] - m[k])
            v[k] = of_square * v[k] + of_gradients_square * g[k] * g[k]
            w[k] -= scale * m[k] / (np.sqrt(v[k]) + epsilon)
        last_step[row] = now
    return float(seen)


@cache
def _compiled(function: Callable[..., float]) -> Callable[..., float]:
    return compiled(function, purpose="updates of rows", fastmath=_FAST)


def can_update(table: Tensor) -> bool:
    """Whether it is worth compiling the functions for the table: it is larger than the processor's cache."""
    return table.nbytes >= _LARGE and has_numba() and is_plain(table)


def run(function: Callable[..., float], rows: Tensor, before: Sequence[Any], tables: Sequence[Tensor]) -> None:
    """One of the functions above on all `rows`, by several threads where there are many."""
    arrays = [each.numpy() if isinstance(each, Tensor) else each for each in (rows, *before, *tables)]
    threads = torch.get_num_threads() if len(rows) * tables[0].shape[1] >= _WORTH_THREADS else 1
    cuts = [len(rows) * part // threads for part in range(threads + 1)]
    in_threads(partial(_compiled(function), *arrays), cuts, threads)
