"""A limit on requests per second, shared by all threads."""

from __future__ import annotations

import time
from threading import Event, Lock


class RateLimit:
    """Start times of requests, evenly spaced."""

    def __init__(self, per_second: float) -> None:
        self._interval_s = 1.0 / per_second
        self._next = 0.0
        self._lock = Lock()

    def wait(self, stop: Event) -> None:
        """Wait for the next start time, or until `stop` is set."""
        with self._lock:
            now = time.monotonic()
            start = max(now, self._next)
            self._next = start + self._interval_s
        stop.wait(start - now)

    def pause(self, seconds: float) -> None:
        """Let no request start for this long, as the server asked."""
        with self._lock:
            self._next = max(self._next, time.monotonic() + seconds)
