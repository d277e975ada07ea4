"""Downloads into a folder: options, one process at a time, and the files that are there."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from lmm4rec.core.errors import ConfigError, DataError, optional
from lmm4rec.data.download.file_signatures import IMAGE_ENDINGS
from lmm4rec.data.download.jobs import Job, Outcome


@dataclass(frozen=True)
class DownloadOptions:
    """Rates, limits and retries of a download."""

    workers: int = 4  # files at a time
    per_second: float = 10.0  # requests, of all workers together
    timeout_s: float = 30.0  # to connect, and between two blocks of a response
    image_deadline_s: float = 120.0  # for one image
    max_image_mb: float = 10.0
    max_file_gb: float = 100.0
    attempts: int = 5
    backoff_s: float = 1.0
    allow_private: tuple[str, ...] = ()  # private addresses or networks to allow
    verify: bool = False  # compare files that are there with their checksums

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if isinstance(value, int | float) and value <= 0 and name not in ("backoff_s", "verify"):
                raise ConfigError(f"{name} = {value} must be more than 0")


def download_images(
    jobs: Sequence[Job], folder: Path, options: DownloadOptions, *, wait: bool = False
) -> list[Outcome]:
    """The outcomes of downloading images into a folder, within the limits of images."""
    max_bytes, deadline_s = options.max_image_mb * 2**20, options.image_deadline_s
    return download_into(jobs, folder, options, max_bytes=max_bytes, deadline_s=deadline_s, unit="image", wait=wait)


def download_into(
    jobs: Sequence[Job],
    folder: Path,
    options: DownloadOptions,
    *,
    max_bytes: float,
    deadline_s: float,
    unit: str,
    wait: bool = False,
) -> list[Outcome]:
    """The outcomes of downloading files into a folder; what is there already is left alone.

    Raises:
        DataError: the folder cannot be written to, or (unless `wait`) another process is fetching into it.
    """
    if not jobs:
        return []
    optional("httpcore2", extra="download", purpose="fetching files")
    from lmm4rec.data.download.download_log import DownloadLog
    from lmm4rec.data.download.fetcher import Fetcher, Limits, RateLimit
    from lmm4rec.data.download.http_client import HttpClient
    from lmm4rec.data.download.parallel import download

    limits = Limits(int(max_bytes), deadline_s, attempts=options.attempts, backoff_s=options.backoff_s)
    client = HttpClient(timeout_s=options.timeout_s, connections=options.workers, allow_private=options.allow_private)
    with closing(client), _locked(folder, wait=wait):
        fetcher, log = Fetcher(client, limits, RateLimit(options.per_second)), DownloadLog(folder)
        return download(jobs, fetcher, log, workers=options.workers, find=file_of, verify=options.verify, unit=unit)


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    """The folder for this process alone: two would write to the same partial files."""
    filelock = optional("filelock", extra="download", purpose="fetching files")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".downloads.lock", timeout=-1 if wait else 0):
            yield
    except filelock.Timeout:
        raise DataError(f"another process is fetching into {folder}; wait for it or stop it") from None
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error}") from error


def file_of(job: Job) -> Path | None:
    """The place of a job's file; of an image, whose ending is not known before, the file that is there."""
    if job.kind != "image":
        return job.target
    places = (job.target.with_name(job.target.name + ending) for ending in IMAGE_ENDINGS)
    return next((place for place in places if place.is_file()), None)


def image_files(folder: Path) -> dict[str, str]:
    """Stem -> name of the image files in a folder; of several of one stem the first kind in `IMAGE_ENDINGS`."""
    if not folder.is_dir():
        return {}
    found: dict[str, str] = {}
    rank = {ending: place for place, ending in enumerate(IMAGE_ENDINGS)}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, ending = os.path.splitext(entry.name)  # noqa: PTH122 (an entry, not a path)
            if ending.lower() not in rank or entry.name.startswith("."):
                continue
            if stem not in found or rank[ending.lower()] < rank[Path(found[stem]).suffix.lower()]:
                found[stem] = entry.name
    return found
