"""Progress bars that behave on a terminal, in a log file and in a notebook."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm.auto import tqdm

_QUIET = ContextVar("lmm4rec_quiet", default=False)


@contextmanager
def quiet() -> Iterator[None]:
    """A context in which no progress is shown: for steps of a larger job that shows its own, and for tests."""
    before = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(before)


def is_quiet() -> bool:
    """Whether progress is hidden here."""
    return _QUIET.get()


def abandon_bars() -> None:
    """Take all bars off the screen, to be drawn no more: after an error they would be drawn over its message."""
    for bar in list(getattr(tqdm, "_instances", ())):
        if sys.stderr.isatty():
            bar.clear()
        bar.disable = True


def progress(*, total: int | None, description: str, unit: str, after_s: float = 0.0) -> Any:
    """A tqdm bar to `update`, hidden within `quiet`; away from a terminal it writes a line now and then.

    Work that is done within `after_s` seconds shows no bar.
    """
    on_terminal = sys.stderr.isatty()
    return tqdm(
        total=total,
        desc=description,
        unit=unit,
        disable=is_quiet(),
        delay=after_s,
        mininterval=0.2 if on_terminal else 10.0,
        dynamic_ncols=on_terminal,
        leave=False if on_terminal else None,
    )
