"""Rows scaled by their cosines with other rows, with a gradient of its own: what a layer of LayerGCN adds to a product.

Large matrices on a CPU are scaled by loops that Numba compiles, where it is installed: one pass in place of some ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from lmm4rec.core.compiled import compiled, has_numba, in_threads, is_plain

_ROWS = 2048  # in a block of PyTorch's, which stays in the cache from one operation to the next
_SHORTEST = 1e-8
_LARGE = 2**19  # numbers in a matrix; a smaller one is not worth the compilation
_PIECES = 4  # for each thread


def scaled_by_cosine(rows: Float[Tensor, "*rows dim"], unit: Float[Tensor, "*rows dim"]) -> Float[Tensor, "*rows dim"]:
    """cos(h, s) · h for rows h and rows s of length 1."""
    flat = rows.flatten(0, -2), unit.flatten(0, -2)
    return cast(Tensor, _ScaledByCosine.apply(*flat)).view_as(rows)  # type: ignore[no-untyped-call]


class _ScaledByCosine(torch.autograd.Function):
    """`scaled_by_cosine` of matrices.

    With c = h · s / |h| and a = g · h / |h| for the gradient g, the gradients are c g + a (s - c h / |h|) of h, a h of
    s. Vectors shorter than 1e-8 count as of that length.
    """

    @staticmethod
    def forward(ctx: Any, rows: Tensor, unit: Tensor) -> Tensor:
        ctx.save_for_backward(rows, unit)
        ctx.compiles = rows.numel() >= _LARGE and has_numba() and is_plain(rows) and is_plain(unit)
        scaled = torch.empty_like(rows)
        if ctx.compiles:
            _in_pieces(scale, rows, unit, scaled)
            return scaled
        for at in _blocks(len(rows)):
            torch.mul(rows[at], _lengths_and_cosines(rows[at], unit[at])[1], out=scaled[at])
        return scaled

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (rows, unit), of_scaled = ctx.saved_tensors, gradients[0].contiguous()
        of_rows, of_unit = torch.empty_like(rows), torch.empty_like(rows)
        if ctx.compiles:
            _in_pieces(scale_gradients, rows, unit, of_scaled, of_rows, of_unit)
            return of_rows, of_unit
        for at in _blocks(len(rows)):
            h, g = rows[at], of_scaled[at]
            length, cosine = _lengths_and_cosines(h, unit[at])
            along = torch.linalg.vecdot(g, h)[:, None] / length
            torch.mul(h, along, out=of_unit[at])
            torch.mul(g, cosine, out=of_rows[at])
            of_rows[at].addcmul_(unit[at], along).addcmul_(h, along * cosine / length, value=-1)
        return of_rows, of_unit


def scale(
    rows: Float32[np.ndarray, "rows dim"],
    unit: Float32[np.ndarray, "rows dim"],
    scaled: Float32[np.ndarray, "rows dim"],
    first: int,
    last: int,
) -> None:
    """Rows `first` to `last` of the scaled matrix."""
    for row in range(first, last):
        h, s, result = rows[row], unit[row], scaled[row]
        square, product = np.float32(0), np.float32(0)
        for k in range(len(h)):
            square += h[k] * h[k]
            product += h[k] * s[k]
        cosine = product / max(np.sqrt(square), np.float32(_SHORTEST))
        for k in range(len(h)):
            result[k] = cosine * h[k]


def scale_gradients(
    rows: Float32[np.ndarray, "rows dim"],
    unit: Float32[np.ndarray, "rows dim"],
    of_scaled: Float32[np.ndarray, "rows dim"],
    of_rows: Float32[np.ndarray, "rows dim"],
    of_unit: Float32[np.ndarray, "rows dim"],
    first: int,
    last: int,
) -> None:
    """Rows `first` to `last` of the gradients of both matrices, from that of the scaled one."""
    for row in range(first, last):
        h, s, g, of_h, of_s = rows[row], unit[row], of_scaled[row], of_rows[row], of_unit[row]
        square, product, along = np.float32(0), np.float32(0), np.float32(0)
        for k in range(len(h)):
            square += h[k] * h[k]
            product += h[k] * s[k]
            along += g[k] * h[k]
        length = max(np.sqrt(square), np.float32(_SHORTEST))
        cosine, along = product / length, along / length
        turned = along * cosine / length
        for k in range(len(h)):
            of_h[k] = cosine * g[k] + along * s[k] - turned * h[k]
            of_s[k] = along * h[k]


def _lengths_and_cosines(
    rows: Float[Tensor, "rows dim"], unit: Float[Tensor, "rows dim"]
) -> tuple[Float[Tensor, "rows 1"], Float[Tensor, "rows 1"]]:
    lengths = torch.linalg.vecdot(rows, rows).sqrt_().clamp_(min=_SHORTEST)
    return lengths[:, None], (torch.linalg.vecdot(rows, unit) / lengths)[:, None]


def _blocks(rows: int) -> Iterator[slice]:
    for start in range(0, rows, _ROWS):
        yield slice(start, min(start + _ROWS, rows))


def _in_pieces(loop: Callable[..., None], *matrices: Tensor) -> None:
    """Run a loop over rows as machine code, in all threads."""
    threads = torch.get_num_threads()
    cuts = np.linspace(0, len(matrices[0]), 1 + (1 if threads == 1 else _PIECES * threads), dtype=int).tolist()
    in_threads(partial(_compiled(loop), *(matrix.detach().numpy() for matrix in matrices)), cuts, threads)


@cache
def _compiled(loop: Callable[..., None]) -> Callable[..., Any]:
    # sums in any order, so that they are taken in vectors
    return compiled(loop, purpose="cosines of rows", fastmath=["contract", "reassoc"])
