"""A fetcher that may reach this machine, and waits for hundredths of a second."""

from __future__ import annotations

from lmm4rec.data.download.fetcher import Fetcher, Limits, RateLimit
from lmm4rec.data.download.http_client import HttpClient

HOME = "127.0.0.1"


def fetcher(
    *,
    max_bytes: int = 1 << 20,
    deadline_s: float = 5.0,
    attempts: int = 3,
    timeout_s: float = 2.0,
    client: HttpClient | None = None,
) -> Fetcher:
    limits = Limits(max_bytes, deadline_s, attempts=attempts, backoff_s=0.01, longest_wait_s=0.3)
    return Fetcher(client or HttpClient(timeout_s=timeout_s, allow_private=[HOME]), limits, RateLimit(1000.0))
