"""Downloads of the Amazon review data: the published files of a category, then the images of its items."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from lmm4rec.core.errors import DataError
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.download.file_signatures import kind_of
from lmm4rec.data.download.folders import DownloadOptions, download_images, download_into
from lmm4rec.data.download.jobs import Job, Outcome
from lmm4rec.data.sources.amazon.editions import EDITIONS, EditionName
from lmm4rec.data.sources.amazon.image_folder import image_stem

_FILE_DEADLINE_S = 24 * 3600.0


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
    outcomes = download_into(jobs, folder, options, max_bytes=max_bytes, deadline_s=_FILE_DEADLINE_S, unit="file")
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
    return download_images(jobs, folder, options)


def _has_otherwise(find: Callable[[Path, str], list[Path]], folder: Path, category: str, published: str) -> bool:
    """Whether the folder has the file under another name, such as decompressed."""
    try:
        return all(file.name != published for file in find(folder, category))
    except DataError:
        return False


def _mirrored(url: str, mirror: str) -> str:
    parts = urlsplit(url)
    return f"{mirror.rstrip('/')}{parts.path}" + (f"?{parts.query}" if parts.query else "")
