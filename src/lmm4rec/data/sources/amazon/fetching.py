"""Downloads of the Amazon review data: the published files of a category, then the images of its items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from lmm4rec.core.errors import ConfigError, DataError, optional
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.download.file_signatures import kind_of
from lmm4rec.data.download.jobs import Job, Outcome
from lmm4rec.data.sources.amazon.editions import EDITIONS, EditionName
from lmm4rec.data.sources.amazon.image_folder import ENDINGS, image_stem

_FILE_DEADLINE_S = 24 * 3600.0


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


def fetch_files(
    category: str,
    edition: EditionName,
    folder: Path,
    options: DownloadOptions,
    *,
    reviews_url: str | None = None,
    meta_url: str | None = None,
) -> list[Outcome]:
    """The outcomes of downloading a category's reviews and metadata into a folder; what is there already is left alone.

    `reviews_url` and `meta_url` are addresses to which the files' names are appended; None: where they are published.
    The folder's `downloads.parquet` and `downloads.json` list all outcomes.

    Raises:
        DataError: a file could not be fetched; the next call resumes it.
    """
    layout = EDITIONS[edition]
    names = list(layout.published(category).items())
    bases = (reviews_url, meta_url)
    finds = (layout.find_reviews, layout.find_meta)
    jobs = [
        Job(name, url if base is None else f"{base.rstrip('/')}/{name}", folder / name, kind_of(name))
        for (name, url), base, find in zip(names, bases, finds, strict=True)
        if not _has_otherwise(find, folder, category, name)
    ]
    max_bytes = options.max_file_gb * 2**30
    outcomes = _download(jobs, folder, options, max_bytes=max_bytes, deadline_s=_FILE_DEADLINE_S, unit="file")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        errors = "; ".join(f"{outcome.url}: {outcome.error}" for outcome in failed)
        raise DataError(f"not fetched: {errors}. The same command goes on where it stopped")
    return outcomes


def fetch_images(
    catalog: Catalog, folder: Path, options: DownloadOptions, *, images_url: str | None = None
) -> list[Outcome]:
    """The outcomes of downloading the images of a catalog's items into a folder; what is there already is left alone.

    A failed image is not an error: `downloads.json` in the folder lists it, and the next call tries it again.

    `images_url` is a mirror: its scheme and host take the place of each address's own, its path goes before.
    """
    jobs = [
        Job(id_, url if images_url is None else _mirrored(url, images_url), folder / image_stem(id_), "image")
        for id_, url in zip(catalog.ids, catalog.image_urls, strict=True)
        if url
    ]
    max_bytes = options.max_image_mb * 2**20
    return _download(jobs, folder, options, max_bytes=max_bytes, deadline_s=options.image_deadline_s, unit="image")


def _download(
    jobs: list[Job], folder: Path, options: DownloadOptions, *, max_bytes: float, deadline_s: float, unit: str
) -> list[Outcome]:
    if not jobs:
        return []
    optional("httpcore2", extra="download", purpose="fetching files")
    from lmm4rec.data.download.download_log import DownloadLog
    from lmm4rec.data.download.fetcher import Fetcher, Limits, RateLimit
    from lmm4rec.data.download.http_client import HttpClient
    from lmm4rec.data.download.parallel import download

    limits = Limits(int(max_bytes), deadline_s, attempts=options.attempts, backoff_s=options.backoff_s)
    client = HttpClient(timeout_s=options.timeout_s, connections=options.workers, allow_private=options.allow_private)
    with closing(client), _locked(folder):
        fetcher, log = Fetcher(client, limits, RateLimit(options.per_second)), DownloadLog(folder)
        return download(jobs, fetcher, log, workers=options.workers, find=_find, verify=options.verify, unit=unit)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """The folder for this process alone: two would write to the same partial files."""
    filelock = optional("filelock", extra="download", purpose="fetching files")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".downloads.lock", timeout=0):
            yield
    except filelock.Timeout:
        raise DataError(f"another process is fetching into {folder}; wait for it or stop it") from None
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error}") from error


def _find(job: Job) -> Path | None:
    """The place of a job's file; of an image, whose ending is not known before, the file that is there."""
    if job.kind != "image":
        return job.target
    places = (job.target.with_name(job.target.name + ending) for ending in ENDINGS)
    return next((place for place in places if place.is_file()), None)


def _has_otherwise(find: Callable[[Path, str], list[Path]], folder: Path, category: str, published: str) -> bool:
    """Whether the folder has the file under another name, such as decompressed."""
    try:
        return all(file.name != published for file in find(folder, category))
    except DataError:
        return False


def _mirrored(url: str, mirror: str) -> str:
    parts = urlsplit(url)
    return f"{mirror.rstrip('/')}{parts.path}" + (f"?{parts.query}" if parts.query else "")
