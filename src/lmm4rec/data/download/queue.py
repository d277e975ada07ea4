"""Many files fetched side by side, what is there already left alone, everything taken down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from pathlib import Path

from lmm4rec.core.progress import progress
from lmm4rec.data.download.fetch import Fetcher
from lmm4rec.data.download.jobs import Job, Outcome
from lmm4rec.data.download.record import Record

_SAVE_EVERY_S = 30.0


def download(
    jobs: Sequence[Job],
    fetcher: Fetcher,
    record: Record,
    *,
    workers: int = 4,
    find: Callable[[Job], Path | None] = lambda job: job.target,
    verify: bool = False,
    description: str = "fetching",
    unit: str = "file",
) -> list[Outcome]:
    """Fetch what is not there; the outcome of each job that was tried.

    Args:
        jobs: what is wanted.
        fetcher: how it is fetched.
        record: what is known of the folder; saved now and then, and at the end, an interruption included.
        workers: how many files are fetched at a time.
        find: where a job's file would be, for a file whose name its bytes decide.
        verify: compare what is there with the checksums of the record, and fetch anew what differs.
        description: what the progress bar calls it.
        unit: what it counts.
    """
    missing = [job for job in jobs if not record.present(job, find(job), verify=verify)]
    outcomes: list[Outcome] = []
    save_at = time.monotonic() + _SAVE_EVERY_S
    try:
        with progress(total=len(missing), description=description, unit=unit, after_s=0.5) as bar:
            for outcome in _side_by_side(missing, fetcher, workers):
                outcomes.append(outcome)
                record.note(outcome)
                bar.update()
                if time.monotonic() > save_at:
                    save_at = _saved(record)
    finally:
        record.save()
    return outcomes


def _saved(record: Record) -> float:
    """Save, and say when to do so again: a record of millions takes longer, and is saved less often."""
    start = time.monotonic()
    record.save()
    took = time.monotonic() - start
    return start + took + max(_SAVE_EVERY_S, 20 * took)


def _side_by_side(jobs: Iterable[Job], fetcher: Fetcher, workers: int) -> Iterator[Outcome]:
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
