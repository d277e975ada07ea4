"""Download of one file: resumed where it stopped, retried where that can help, checked before it gets its name."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from itertools import count
from threading import Event, Lock

import httpcore2

from lmm4rec.data.download.addresses import RefusedError
from lmm4rec.data.download.file_signatures import SIGNATURE_BYTES
from lmm4rec.data.download.http_client import HttpClient, Response
from lmm4rec.data.download.jobs import AttemptError, Job, Outcome, StoppedError
from lmm4rec.data.download.partial_file import PartialFile

_PROGRESS = 1 << 20  # bytes with which an attempt counts as progress and not as a failure
_RETRIED = (408, 425, 429, 500, 502, 503, 504)  # statuses after which another attempt may succeed


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


@dataclass(frozen=True)
class Limits:
    """Limits of size, time and attempts."""

    max_bytes: int
    deadline_s: float  # of one attempt, however steadily bytes come
    attempts: int = 4  # in a row without progress
    backoff_s: float = 1.0  # before the second attempt; twice as long before each one after
    longest_wait_s: float = 60.0


@dataclass(frozen=True)
class Fetcher:
    """Downloads of single files; safe to use from several threads."""

    client: HttpClient
    limits: Limits
    rate: RateLimit
    stop: Event = field(default_factory=Event)

    def fetch(self, job: Job) -> Outcome:
        """The outcome of a job: its file is in its place, or the error of the last attempt.

        Raises:
            StoppedError: `stop` was set.
        """
        partial, failures = PartialFile(job), 0
        for attempt in count(1):
            before = partial.resumable()
            try:
                return replace(self._attempt(partial), attempts=attempt)
            except AttemptError as failure:
                failures = 1 if partial.resumable() - before >= _PROGRESS else failures + 1
                if not failure.again or failures >= self.limits.attempts:
                    return Outcome(job.key, job.url, "failed", attempts=attempt, error=failure.message)
                self._back_off(job, failures, failure.wait_s)
        raise AssertionError("counting never ends")

    def _back_off(self, job: Job, failures: int, asked_s: float) -> None:
        if asked_s:
            self.rate.pause(min(asked_s, self.limits.longest_wait_s))  # the server asked all threads
        spread = 0.75 + zlib.crc32(job.key.encode()) / 2**33  # so that jobs that failed together do not retry together
        self.stop.wait(min(self.limits.backoff_s * 2 ** (failures - 1) * spread, self.limits.longest_wait_s))

    def _attempt(self, partial: PartialFile) -> Outcome:
        self.rate.wait(self.stop)
        if self.stop.is_set():
            raise StoppedError
        try:
            with self.client.get(partial.job.url, partial.headers()) as response:
                self._receive(partial, response)
        except RefusedError as error:
            raise AttemptError(str(error)) from None
        except httpcore2.TimeoutException as error:
            raise AttemptError(f"timed out ({type(error).__name__})", again=True) from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise AttemptError(f"connection failed: {error or type(error).__name__}", again=True) from None
        return partial.finish()

    def _receive(self, partial: PartialFile, response: Response) -> None:
        """Append the body to the partial file; at a limit the connection is left."""
        size = _first_byte(partial, response)
        total, allowed = _total(response.headers, size), self.limits.max_bytes
        if total is not None and total > allowed:
            partial.discard()
            raise AttemptError(f"too large: {total:,} bytes, allowed are {allowed:,}")
        ends = time.monotonic() + self.limits.deadline_s
        with partial.open(response.headers, size) as file:
            for block in response.blocks:
                if self.stop.is_set():
                    raise StoppedError
                size += len(block)
                if size > allowed:
                    partial.discard()
                    raise AttemptError(f"too large: more than the {allowed:,} bytes that are allowed")
                file.write(block)
                if size >= SIGNATURE_BYTES > size - len(block):
                    file.flush()
                    partial.check_signature()
                if time.monotonic() > ends:
                    raise AttemptError(f"too slow: {size:,} bytes after {self.limits.deadline_s:g} s", again=True)
        if total is not None and size != total:
            raise AttemptError(f"cut off: {size:,} of {total:,} bytes", again=True)


def _first_byte(partial: PartialFile, response: Response) -> int:
    """The position in the file of the first byte of the body."""
    status, headers = response.status, response.headers
    if status == 200:
        return 0
    if status == 206:
        size = partial.size()
        if size and headers.get("content-range", "").replace(" ", "").startswith(f"bytes{size}-"):
            return size
        partial.discard()
        raise AttemptError("the server resumed at another place than was asked", again=True)
    if status == 416:  # the file is now shorter than the partial one
        partial.discard()
        raise AttemptError("the file changed while it was fetched", again=True)
    again = status in _RETRIED
    raise AttemptError(f"HTTP {status}", again=again, wait_s=_retry_after_s(headers) if again else 0.0)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    """The seconds that the server asks to wait; 0 where it does not say."""
    asked = headers.get("retry-after", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _total(headers: Mapping[str, str], start: int) -> int | None:
    length = headers.get("content-length", "").strip()
    return start + int(length) if length.isdecimal() else None
