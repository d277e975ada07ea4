"""The Amazon review data fetched from where it is published: the files of a category, then its items' images."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from lmm4rec.core.errors import ConfigError, DataError, optional
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.sources.amazon.editions import EDITIONS, EditionName
from lmm4rec.data.sources.amazon.image_folder import ENDINGS, image_stem

if TYPE_CHECKING:
    from lmm4rec.data.download.jobs import Job, Outcome
    from lmm4rec.data.download.network import Network

_FILE_DEADLINE_S = 24 * 3600.0


@dataclass(frozen=True)
class Manners:
    """How servers are treated."""

    workers: int = 4  # files at a time
    per_second: float = 10.0  # requests, from all workers together
    timeout_s: float = 30.0  # to connect, and for each answer to go on
    image_deadline_s: float = 120.0  # for one image
    max_image_mb: float = 10.0
    max_file_gb: float = 100.0
    attempts: int = 5
    backoff_s: float = 1.0
    allow_private: tuple[str, ...] = ()  # private addresses or networks that are wanted
    verify: bool = False  # compare what is there with its checksum

    def __post_init__(self) -> None:
        for name in (
            "workers",
            "per_second",
            "timeout_s",
            "image_deadline_s",
            "max_image_mb",
            "max_file_gb",
            "attempts",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} = {getattr(self, name)} must be more than 0")


def fetch_files(
    category: str,
    edition: EditionName,
    folder: Path,
    manners: Manners,
    *,
    reviews_url: str | None = None,
    meta_url: str | None = None,
) -> list[Outcome]:
    """Fetch a category's reviews and metadata into a folder, where they aren't there; the outcome of each tried.

    Args:
        category: as the files spell it.
        edition: which edition.
        folder: where the files go, and `downloads.parquet` and `downloads.json` about them.
        manners: how the server is treated.
        reviews_url: the address that the name of the reviews' file is added to; not given: where they are published.
        meta_url: the same for the metadata.

    Raises:
        DataError: a file could not be fetched; the next call resumes it.
    """
    layout = EDITIONS[edition]
    names = list(layout.published(category).items())
    bases = (reviews_url, meta_url)
    finds = (layout.find_reviews, layout.find_meta)
    jobs = [
        _file_job(folder, name, url if base is None else f"{base.rstrip('/')}/{name}")
        for (name, url), base, find in zip(names, bases, finds, strict=True)
        if not _has_otherwise(find, folder, category, name)
    ]
    outcomes = _download(jobs, folder, manners, manners.max_file_gb * 2**30, _FILE_DEADLINE_S, "files")
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    if failed:
        told = "; ".join(f"{outcome.url}: {outcome.error}" for outcome in failed)
        raise DataError(f"not fetched: {told}. The same command goes on where it stopped")
    return outcomes


def fetch_images(catalog: Catalog, folder: Path, manners: Manners, *, images_url: str | None = None) -> list[Outcome]:
    """Fetch the images of a catalog's items into a folder, where they aren't there; the outcome of each tried.

    An image that fails is not an error: `downloads.json` in the folder tells, and the next call tries again.

    Args:
        catalog: the items, with `image_urls`.
        folder: where the images go, and `downloads.parquet` and `downloads.json` about them.
        manners: how the servers are treated.
        images_url: a mirror: scheme and host of it take the place of each address's own, its path goes before.
    """
    jobs = [
        _image_job(folder, id_, url if images_url is None else _mirrored(url, images_url))
        for id_, url in zip(catalog.ids, catalog.image_urls, strict=True)
        if url
    ]
    limit = manners.max_image_mb * 2**20
    return _download(jobs, folder, manners, limit, manners.image_deadline_s, "images")


def _download(
    jobs: list[Job], folder: Path, manners: Manners, max_bytes: float, deadline_s: float, what: str
) -> list[Outcome]:
    if not jobs:
        return []
    optional("httpcore2", extra="download", purpose="fetching files")
    from lmm4rec.data.download.fetch import Fetcher, Limits
    from lmm4rec.data.download.pace import Pace
    from lmm4rec.data.download.queue import download
    from lmm4rec.data.download.record import Record

    with _written(folder), _alone(folder), closing(_network(manners)) as network:
        limits = Limits(int(max_bytes), deadline_s, attempts=manners.attempts, backoff_s=manners.backoff_s)
        return download(
            jobs,
            Fetcher(network, limits, Pace(manners.per_second)),
            Record(folder),
            workers=manners.workers,
            find=_place,
            verify=manners.verify,
            description=f"fetching {what}",
            unit=what.removesuffix("s"),
        )


def _network(manners: Manners) -> Network:
    from lmm4rec.data.download.network import Network

    return Network(timeout_s=manners.timeout_s, connections=manners.workers, allow_private=manners.allow_private)


@contextmanager
def _written(folder: Path) -> Iterator[None]:
    """Where the folder cannot be written to, a message instead of a failure of each file."""
    try:
        yield
    except OSError as error:
        raise DataError(f"cannot write to {folder}: {error}") from error


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """No second process fetches into the folder meanwhile: both would write to the same part of a file."""
    filelock = optional("filelock", extra="download", purpose="fetching files")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / ".downloads.lock", timeout=0):
            yield
    except filelock.Timeout:
        raise DataError(f"another process is fetching into {folder}; wait for it or stop it") from None


def _file_job(folder: Path, name: str, url: str) -> Job:
    from lmm4rec.data.download.jobs import Job
    from lmm4rec.data.download.kinds import kind_of

    return Job(name, url, folder / name, kind_of(name))


def _image_job(folder: Path, id_: str, url: str) -> Job:
    from lmm4rec.data.download.jobs import Job

    return Job(id_, url, folder / image_stem(id_), "image")


def _place(job: Job) -> Path | None:
    """Where a job's file is; of an image, whose ending nobody knows before, the one that is there."""
    if job.kind != "image":
        return job.target
    places = (job.target.with_name(job.target.name + ending) for ending in ENDINGS)
    return next((place for place in places if place.is_file()), None)


def _has_otherwise(find: Callable[[Path, str], list[Path]], folder: Path, category: str, published: str) -> bool:
    """Whether the folder has the file under another name, such as unpacked."""
    try:
        return all(file.name != published for file in find(folder, category))
    except DataError:
        return False


def _mirrored(url: str, mirror: str) -> str:
    parts = urlsplit(url)
    return f"{mirror.rstrip('/')}{parts.path}" + (f"?{parts.query}" if parts.query else "")
