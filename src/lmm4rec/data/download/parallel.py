"""Downloads of many files in parallel; files that are there already are left alone, outcomes are logged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path

from lmm4rec.core.progress import progress
from lmm4rec.data.download.download_log import DownloadLog
from lmm4rec.data.download.fetcher import Fetcher
from lmm4rec.data.download.jobs import Job, Outcome

_SAVE_EVERY_S = 30.0


def download(
    jobs: Sequence[Job],
    fetcher: Fetcher,
    log: DownloadLog,
    *,
    workers: int = 4,
    find: Callable[[Job], Path | None] = lambda job: job.target,
    verify: bool = False,
    unit: str = "file",
) -> list[Outcome]:
    """The outcomes of the jobs whose files were missing; the log is saved now and then, and at the end in any case.

    `find` is the place of a job's file, for a file whose ending its bytes decide. With `verify`, files that are there
    are compared with the checksums of the log, and downloaded again where they differ.
    """
    missing = [job for job in jobs if not log.is_present(job, find(job), verify=verify)]
    outcomes: list[Outcome] = []
    save_at = time.monotonic() + _SAVE_EVERY_S
    try:
        with progress(total=len(missing), description=f"fetching {unit}s", unit=unit, after_s=0.5) as bar:
            for outcome in _outcomes(missing, fetcher, workers):
                outcomes.append(outcome)
                log.add(outcome)
                bar.update()
                if time.monotonic() > save_at:
                    save_at = _save(log)
    finally:
        log.save()
    return outcomes


def _save(log: DownloadLog) -> float:
    """The time of the next save: a log of millions takes longer, and is saved less often."""
    start = time.monotonic()
    log.save()
    took = time.monotonic() - start
    return start + took + max(_SAVE_EVERY_S, 20 * took)


def _outcomes(jobs: Iterable[Job], fetcher: Fetcher, workers: int) -> Iterator[Outcome]:
    """The outcomes as they come; few jobs wait in the pool, so that an interruption ends it soon."""
    rest = iter(jobs)
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="fetch") as pool:
        running: set[Future[Outcome]] = {pool.submit(fetcher.fetch, job) for job in islice(rest, workers * 2)}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(fetcher.fetch, job) for job in islice(rest, len(done))}
                yield from (future.result() for future in done)
        except BaseException:
            fetcher.stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
