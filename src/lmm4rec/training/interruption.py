"""Interruption of a training by Ctrl-C or SIGTERM, at the end of an epoch."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lmm4rec.distributed import process_group


@dataclass
class Interruption:
    """Whether a process was asked to stop."""

    requested: bool = False

    def is_requested(self) -> bool:
        """Whether any process of the group was asked to stop; the same in all of them."""
        return process_group.any_process(self.requested)


@contextmanager
def deferred_interruption(*, is_saved: bool) -> Iterator[Interruption]:
    """A context in which the first Ctrl-C or SIGTERM is noted, and the second one stops at once.

    Signals act as before where nothing is saved (not `is_saved`) and in other threads than the main one.
    """
    interruption = Interruption()
    is_main = threading.current_thread() is threading.main_thread()
    if not is_saved or not is_main:
        yield interruption
        return

    def request(*_: object) -> None:
        if interruption.requested:
            raise KeyboardInterrupt
        interruption.requested = True
        logging.getLogger(__name__).warning("stopping after this epoch; interrupt again to stop at once")

    with _handlers(request, signal.SIGINT, signal.SIGTERM):
        yield interruption


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """A context in which SIGTERM, with which schedulers end jobs, raises KeyboardInterrupt as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    with _handlers(signal.default_int_handler, signal.SIGTERM):
        yield


@contextmanager
def _handlers(handler: Callable[..., object], *numbers: signal.Signals) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old or signal.SIG_DFL)
