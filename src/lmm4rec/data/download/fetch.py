"""One file fetched: resumed where it stopped, tried again where that can help, checked before it gets its name."""

from __future__ import annotations

import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import parsedate_to_datetime
from itertools import count
from threading import Event

import httpcore2

from lmm4rec.data.download.addresses import RefusedError
from lmm4rec.data.download.jobs import AttemptError, Job, Outcome, StoppedError
from lmm4rec.data.download.kinds import HEAD
from lmm4rec.data.download.network import Answer, Network
from lmm4rec.data.download.pace import Pace
from lmm4rec.data.download.part import Part

_FRUIT = 1 << 20  # bytes that an attempt must have brought to be none of those that count
_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # answers that another attempt may better


@dataclass(frozen=True)
class Limits:
    """How far a fetch goes."""

    max_bytes: int
    deadline_s: float  # for one attempt, however steadily it trickles
    attempts: int = 4  # in a row that bring next to nothing
    backoff_s: float = 1.0  # before the second attempt; twice as long before each one after
    longest_wait_s: float = 60.0


@dataclass(frozen=True)
class Fetcher:
    """Fetches jobs; safe to use from several threads."""

    network: Network
    limits: Limits
    pace: Pace
    stop: Event = field(default_factory=Event)

    def fetch(self, job: Job) -> Outcome:
        """The job's file in its place, or why it isn't.

        Raises:
            StoppedError: `stop` was set.
        """
        part, fruitless = Part.of(job), 0
        for attempt in count(1):
            before = part.kept()
            try:
                return replace(self._attempt(job), attempts=attempt)
            except AttemptError as failure:
                fruitless = 1 if part.kept() - before >= _FRUIT else fruitless + 1
                if not failure.again or fruitless >= self.limits.attempts:
                    return Outcome(job.key, job.url, "failed", attempts=attempt, error=failure.message)
                self._back_off(job, fruitless, failure.wait_s)
        raise AssertionError("counting never ends")

    def _back_off(self, job: Job, attempt: int, asked_s: float) -> None:
        if asked_s:
            self.pace.hold(min(asked_s, self.limits.longest_wait_s))  # the server asked all of us
        spread = 0.75 + zlib.crc32(job.key.encode()) / 2**33  # jobs that failed together don't come back together
        self.stop.wait(min(self.limits.backoff_s * 2 ** (attempt - 1) * spread, self.limits.longest_wait_s))

    def _attempt(self, job: Job) -> Outcome:
        part = Part.of(job)
        self.pace.take(self.stop)
        if self.stop.is_set():
            raise StoppedError
        try:
            with self.network.get(job.url, part.headers()) as answer:
                self._receive(job, part, answer)
        except RefusedError as error:
            raise AttemptError(str(error)) from None
        except httpcore2.TimeoutException as error:
            raise AttemptError(f"timed out ({type(error).__name__})", again=True) from None
        except (httpcore2.NetworkError, httpcore2.ProtocolError) as error:
            raise AttemptError(f"connection failed: {error or type(error).__name__}", again=True) from None
        return part.finish(job)

    def _receive(self, job: Job, part: Part, answer: Answer) -> None:
        start = _start(part, answer)
        total = _length(answer.headers, start)
        if total is not None and total > self.limits.max_bytes:
            part.discard()
            raise AttemptError(f"too large: {total:,} bytes, allowed are {self.limits.max_bytes:,}")
        ends = time.monotonic() + self.limits.deadline_s
        size = start
        with part.open(answer.headers, start) as file:
            for block in answer.blocks:
                if self.stop.is_set():
                    raise StoppedError
                size += len(block)
                if size > self.limits.max_bytes:
                    part.discard()
                    raise AttemptError(f"too large: more than the {self.limits.max_bytes:,} bytes that are allowed")
                file.write(block)
                if size >= HEAD > size - len(block):
                    file.flush()
                    part.check_head(job)
                if time.monotonic() > ends:
                    raise AttemptError(f"too slow: {size:,} bytes after {self.limits.deadline_s:g} s", again=True)
        if total is not None and size != total:
            raise AttemptError(f"cut off: {size:,} of {total:,} bytes", again=True)
        part.check_head(job)


def _start(part: Part, answer: Answer) -> int:
    """Where in the file the answer's bytes begin."""
    if answer.status == 200:
        return 0
    if answer.status == 206:
        size = part.path.stat().st_size if part.path.is_file() else 0
        if size and answer.headers.get("content-range", "").replace(" ", "").startswith(f"bytes{size}-"):
            return size
        part.discard()
        raise AttemptError("the server resumed at another place than was asked", again=True)
    if answer.status == 416:  # nothing is left of the version that we have a part of
        part.discard()
        raise AttemptError("the file changed while it was fetched", again=True)
    again = answer.status in _AGAIN
    raise AttemptError(f"HTTP {answer.status}", again=again, wait_s=_seconds(answer.headers) if again else 0.0)


def _seconds(headers: Mapping[str, str]) -> float:
    """How long the server asks to wait, in seconds; 0 where it doesn't say."""
    asked = headers.get("retry-after", "").strip()
    if asked.isdecimal():
        return float(asked)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def _length(headers: Mapping[str, str], start: int) -> int | None:
    length = headers.get("content-length", "").strip()
    return start + int(length) if length.isdecimal() else None
