"""Images that a table names by URL: fetched into a folder where that is asked for, else counted."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from lmm4rec.data.buckets import is_remote
from lmm4rec.data.download.file_signatures import IMAGE_ENDINGS
from lmm4rec.data.download.folders import DownloadOptions, download_images, image_files
from lmm4rec.data.download.jobs import Job
from lmm4rec.data.findings import Finding, agreeing, counted
from lmm4rec.data.images import ImageFile
from lmm4rec.data.object_store import fetch_objects

_URL = re.compile(r"\s*(?!file:)(?:[a-z][a-z0-9+.-]*:)?//[^/\s]", re.IGNORECASE)
_NEXT = re.compile(r"[\s,;|]+(?=(?:https?:)?//)", re.IGNORECASE)


@dataclass(frozen=True)
class UrlImages:
    """Where images of URLs lie, and whether the missing ones are fetched."""

    folder: Path
    fetch: bool = False
    options: DownloadOptions = field(default_factory=DownloadOptions)


def is_url(name: str) -> bool:
    """Whether an image's name is a URL ("https://…", "//cdn.example/…", of any scheme but file)."""
    return _URL.match(name) is not None


def first_url(cell: str) -> tuple[str, bool]:
    """The first URL in a cell, with a scheme, and whether there are more."""
    url, *others = _NEXT.split(cell.strip())
    url = url.replace(" ", "%20")
    return ("https:" + url if url.startswith("//") else url), bool(others)


def images_by_url(
    urls: Sequence[str], labels: Sequence[str], where: UrlImages
) -> tuple[list[ImageFile | None], list[Finding]]:
    """The image of each URL, None where it is not there, and findings whose examples begin with the `labels`.

    Files are named by a digest of their URL, so that a URL of several items is fetched once and a changed one anew.

    Raises:
        DataError: the folder cannot be written to.
        MissingExtraError: images are to be fetched, and the extra `download` is not installed.
    """
    stems = {url: hashlib.sha256(url.encode(errors="surrogatepass")).hexdigest()[:40] for url in dict.fromkeys(urls)}
    files = image_files(where.folder)
    jobs = [Job(url, url, where.folder / stem, "image") for url, stem in stems.items() if stem not in files]
    errors: dict[str, str] = {}
    if where.fetch and jobs:
        objects = {job.url: _with_ending(job) for job in jobs if is_remote(job.url)}
        errors = fetch_objects(objects)
        others = [job for job in jobs if job.url not in objects]
        outcomes = download_images(others, where.folder, where.options, wait=True)
        errors |= {outcome.key: outcome.error for outcome in outcomes if outcome.status == "failed"}
        files = image_files(where.folder)
    root = where.folder.resolve()
    names = [files.get(stems[url]) for url in urls]
    images = [None if name is None else ImageFile(root / name, root) for name in names]
    absent = {label: url for label, url, name in zip(labels, urls, names, strict=True) if name is None}
    return images, [_absent(absent, errors, where)] if absent else []


def _with_ending(job: Job) -> Path:
    """The place of an image of an object store, whose name has its ending."""
    ending = PurePosixPath(job.url).suffix.lower()
    return job.target.with_name(job.target.name + (ending if ending in IMAGE_ENDINGS else IMAGE_ENDINGS[0]))


def _absent(absent: Mapping[str, str], errors: Mapping[str, str], where: UrlImages) -> Finding:
    if not where.fetch:
        message = (
            f"{counted(len(absent), 'item')} {agreeing(len(absent), 'name')} a URL as image, which was not fetched; "
            f"treated as having no image: data.fetch_images = true fetches them into {where.folder}"
        )
        examples = tuple(f"{label}: {url[:200]}" for label, url in list(absent.items())[:10])
        return Finding("image-not-fetched", "warning", len(absent), message, examples)
    message = (
        f"the images of {counted(len(absent), 'item')} could not be fetched; treated as having no image, the next run "
        f"tries again; {where.folder / 'downloads.json'} lists them"
    )
    examples = tuple(f"{label}: {url[:200]}: {errors.get(url, 'no file')}" for label, url in list(absent.items())[:10])
    return Finding("image-not-fetched", "warning", len(absent), message, examples)
