"""How often a server is asked: at most so many times a second, from all threads together."""

from __future__ import annotations

import time
from threading import Event, Lock


class Pace:
    """Hands out turns, evenly spaced."""

    def __init__(self, per_second: float) -> None:
        """`per_second` is how many turns there are in a second."""
        self._every = 1.0 / per_second
        self._next = 0.0
        self._lock = Lock()

    def take(self, stop: Event) -> None:
        """Wait for the next turn, or until `stop` is set."""
        with self._lock:
            now = time.monotonic()
            turn = max(now, self._next)
            self._next = turn + self._every
        stop.wait(turn - now)

    def hold(self, seconds: float) -> None:
        """No turn for so long: the server asked for a pause."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
