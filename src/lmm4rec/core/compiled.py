"""Functions compiled to machine code by Numba, an optional package."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.util import find_spec
from inspect import unwrap
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from lmm4rec.core.errors import optional


@cache
def has_numba() -> bool:
    """Whether Numba is installed."""
    return find_spec("numba") is not None


def compiled(function: Callable[..., Any], *, purpose: str, fastmath: Collection[str]) -> Callable[..., Any]:
    """The function as machine code; compiled at the first call, and kept on disk where a folder can be written.

    `fastmath` are LLVM's names of what it may assume. Other threads run meanwhile.

    Raises:
        MissingExtraError: Numba is not installed.
    """
    numba = optional("numba", extra="numba", purpose=purpose)
    plain = unwrap(function)  # without checks of shapes, where tests add them
    options = {"fastmath": set(fastmath), "error_model": "numpy", "nogil": True}
    try:
        made: Callable[..., Any] = numba.njit(cache=True, **options)(plain)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        made = numba.njit(**options)(plain)
    return made


def is_plain(values: Tensor) -> bool:
    """Whether a compiled function reads and writes the memory of the values in place."""
    return values.device.type == "cpu" and values.dtype == torch.float32 and values.is_contiguous()


def in_threads(function: Callable[[int, int], Any], cuts: Sequence[int], threads: int) -> None:
    """Call a compiled function on the ranges between the cuts, by that many threads."""
    if threads == 1:
        for first, last in pairwise(cuts):
            function(first, last)
    else:
        list(_executor(threads).map(function, cuts[:-1], cuts[1:]))


@cache
def _executor(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="compiled")
