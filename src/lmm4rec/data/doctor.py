"""The examination of a data set before training: what is damaged, missing or unusual, and how large it is."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import polars as pl
from jaxtyping import Bool, Int64

from lmm4rec.core.errors import DataError, ImageError
from lmm4rec.core.progress import progress
from lmm4rec.core.types import ItemImage, Modality
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.feature_files import BROKEN, broken_mask, read_rows
from lmm4rec.data.filters import dislikes
from lmm4rec.data.findings import Finding, agreeing, counted
from lmm4rec.data.images import HugeImageError, ImageFile, MissingImageError, NotAnImageError

FEW = 5  # a user or an item with fewer interactions is rare
_YEAR = 365 * 86_400  # seconds
_COLUMNS = 20  # empty ones are listed up to this number
TINY = 32  # an image with a shorter side of fewer pixels is tiny


class _ItemFinding(NamedTuple):
    level: str
    message: str  # follows the number of items


_ITEM_FINDINGS: Mapping[str, _ItemFinding] = {
    "missing-image": _ItemFinding("warning", "name an image file that is missing; treated as having no image"),
    "not-an-image": _ItemFinding("warning", "name a file that is no image; treated as having no image"),
    "huge-image": _ItemFinding("warning", "have an image with too many pixels; treated as having no image"),
    "broken-image": _ItemFinding("warning", "have a damaged image; treated as having no image"),
    "tiny-image": _ItemFinding("note", f"have an image with a side of less than {TINY} pixels"),
    "animated-image": _ItemFinding("note", "have an animated image or one of several pages; the first is used"),
    "rotated-image": _ItemFinding("note", "have an image with a rotation in its EXIF data; it is turned upright"),
    "alpha-image": _ItemFinding("note", "have an image with transparency; its background becomes white"),
    "cmyk-image": _ItemFinding("note", "have a CMYK image; it is converted to RGB"),
    "gray-image": _ItemFinding("note", "have a gray image; it is converted to RGB"),
    "deep-image": _ItemFinding("note", "have an image of 16 bits or more; it is converted to 8 bits"),
    "duplicate-image": _ItemFinding("note", "have the same image file, byte for byte, as another item"),
    "no-image": _ItemFinding("note", "have no image"),
    "no-text": _ItemFinding("warning", "have no text"),
    "duplicate-text": _ItemFinding("note", "have the same text as another item"),
    "no-interaction-item": _ItemFinding("note", "have no interaction"),
    "rare-item": _ItemFinding("note", f"have from 1 to {FEW - 1} interactions"),
}
_FAILURES: Mapping[type[ImageError], str] = {
    MissingImageError: "missing-image",
    NotAnImageError: "not-an-image",
    HugeImageError: "huge-image",
}
_FAILED = {*_FAILURES.values(), "broken-image"}


def examine(dataset: Dataset) -> tuple[Finding, ...]:
    """All findings: of reading and filtering, then on images (each is opened), texts, log and feature files."""
    found = [
        *_examine_images(dataset.catalog),
        *_examine_texts(dataset.catalog),
        *_examine_log(dataset),
        *_examine_features(dataset.catalog),
    ]
    repeated = {finding.kind for finding in found}  # opening images finds missing files that reading found too
    known = [finding for finding in dataset.findings if finding.kind not in repeated]
    return (*known, *found)


def describe(dataset: Dataset) -> dict[str, int | float | str]:
    """The sizes of a data set, by name."""
    log, catalog = dataset.interactions, dataset.catalog
    facts: dict[str, int | float | str] = {
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": len(log),
        "density": round(len(log) / max(dataset.n_users * dataset.n_items, 1), 8),
        "median per user": _median(log.user_counts(dataset.n_users)),
        "median per item": _median(log.item_counts(dataset.n_items)),
        "items with an image": int(catalog.has_image.sum()),
        "items with text": int(_has_text(catalog).sum()),
    }
    if len(dataset.negatives):
        facts["negative signals"] = f"{len(dataset.negatives):,} ({dataset.negatives.summary()})"
    if catalog.shipped:
        facts["feature files"] = ", ".join(catalog.shipped)
    for name, column in (("ratings", log.ratings), ("weights", log.weights)):
        if column is not None and len(log):
            low, middle, high = np.quantile(column, (0, 0.5, 1))
            facts[name] = f"{low:g} to {high:g}, median {middle:g}"
    if log.timestamps is not None and len(log):
        facts["first"], facts["last"] = _day(int(log.timestamps.min())), _day(int(log.timestamps.max()))
    return facts


def _median(counts: Int64[np.ndarray, " groups"]) -> float:
    return float(np.median(counts)) if len(counts) else 0.0


def _day(moment: int) -> str:
    return str(np.datetime64(moment, "s").astype("datetime64[D]"))


def _finding(kind: str, catalog: Catalog, rows: Sequence[int], details: Mapping[int, str] | None = None) -> Finding:
    """A finding on the items of these rows; `details` are added to examples."""
    level, message = _ITEM_FINDINGS[kind]  # the message begins with its verb
    named = {row: f"item {catalog.ids[row]}" for row in rows[:10]}
    examples = tuple(f"{name}: {details[row]}" if details and row in details else name for row, name in named.items())
    verb, what = message.split(" ", 1)
    return Finding(kind, level, len(rows), f"{counted(len(rows), 'item')} {agreeing(len(rows), verb)} {what}", examples)


class _ExaminedImage(NamedTuple):
    kinds: tuple[str, ...]  # of findings on it
    digest: str
    detail: str  # the file, and its size or error


def _examine_images(catalog: Catalog) -> list[Finding]:
    rows = np.flatnonzero(catalog.has_image).tolist()
    images = [catalog.images[row] for row in rows]
    found: dict[str, list[int]] = defaultdict(list)
    digests: dict[str, list[int]] = defaultdict(list)
    details: dict[int, str] = {}
    bar = progress(total=len(rows), description="images", unit="image")
    with bar, ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for row, examined in zip(rows, pool.map(_examine_image, images), strict=True):
            bar.update()
            details[row] = examined.detail
            if not _FAILED & set(examined.kinds):
                digests[examined.digest].append(row)
            for kind in examined.kinds:
                found[kind].append(row)
    found["duplicate-image"] = sorted(row for same in digests.values() if len(same) > 1 for row in same)
    if rows:
        found["no-image"] = np.flatnonzero(~catalog.has_image).tolist()
    return [_finding(kind, catalog, found[kind], details) for kind in _ITEM_FINDINGS if found[kind]]


def _examine_image(image: ItemImage) -> _ExaminedImage:
    digest = image.digest()
    file = str(image) if isinstance(image, ImageFile) else "a drawn image"
    try:
        opened = image.open()
        conversions = image.conversions() if isinstance(image, ImageFile) else ()
    except ImageError as error:
        return _ExaminedImage((_FAILURES.get(type(error), "broken-image"),), digest, str(error))
    kinds = [f"{name}-image" for name in conversions]
    if min(opened.size) < TINY:
        kinds.append("tiny-image")
    return _ExaminedImage(tuple(kinds), digest, f"{file}, {opened.width} × {opened.height}")


def _has_text(catalog: Catalog) -> Bool[np.ndarray, " items"]:
    if not catalog.fields.width:
        return np.zeros(len(catalog), dtype=bool)
    filled = pl.any_horizontal(pl.all().str.strip_chars() != "")
    return catalog.fields.select(filled).to_series().to_numpy()


def _examine_texts(catalog: Catalog) -> list[Finding]:
    if not catalog.fields.width:
        return []
    has_text = _has_text(catalog)
    same = catalog.fields.is_duplicated().to_numpy() & has_text
    findings = []
    for kind, mask in (("no-text", ~has_text), ("duplicate-text", same)):
        if mask.any():
            rows = np.flatnonzero(mask).tolist()
            titles = {row: title for row in rows[:10] if (title := catalog.title(row)) != catalog.ids[row]}
            findings.append(_finding(kind, catalog, rows, titles))
    empty = {column: int(((catalog.fields[column].str.strip_chars() == "").to_numpy() & has_text).sum())
             for column in catalog.fields.columns}  # fmt: skip
    empty = {column: count for column, count in empty.items() if count}
    if len(empty) > _COLUMNS:
        message = f"{counted(len(empty), 'text column')} are empty for some items that have other text"
        return [*findings, Finding("empty-text", "note", len(empty), message, tuple(list(empty)[:10]))]
    for column, count in empty.items():
        message = f"{counted(count, 'item')} with other text {agreeing(count, 'have')} an empty '{column}'"
        findings.append(Finding("empty-text", "note", count, message))
    return findings


def _examine_log(dataset: Dataset) -> list[Finding]:
    users = dataset.interactions.user_counts(dataset.n_users)
    items = dataset.interactions.item_counts(dataset.n_items)
    findings = [
        _finding(kind, dataset.catalog, np.flatnonzero(mask).tolist())
        for kind, mask in (("no-interaction-item", items == 0), ("rare-item", (items > 0) & (items < FEW)))
        if mask.any()
    ]
    few = np.flatnonzero(users < FEW)
    if len(few):
        message = f"{counted(len(few), 'user')} {agreeing(len(few), 'have')} fewer than {FEW} interactions"
        findings.append(
            Finding("rare-user", "note", len(few), message, tuple(f"user {dataset.users[row]}" for row in few[:10]))
        )
    return [*findings, *dislikes(dataset), *_examine_ratings(dataset), *_examine_times(dataset)]


def _examine_ratings(dataset: Dataset) -> Iterable[Finding]:
    """A finding on ratings far above the scale, such as 999 among 1 to 5."""
    log, ratings = dataset.interactions, dataset.interactions.ratings
    if ratings is None or not len(ratings):
        return
    usual = float(np.quantile(ratings, 0.98, method="lower"))
    rows = np.flatnonzero(ratings > 10 * max(usual, 1.0))
    if len(rows):
        named = [f"user {dataset.users[log.users[at]]}, item {dataset.items[log.items[at]]}" for at in rows[:10]]
        examples = tuple(f"{name}: {ratings[at]:g}" for name, at in zip(named, rows[:10], strict=True))
        message = (
            f"{counted(len(rows), 'rating')} far above the others (98 % are up to {usual:g}): such ratings count as "
            "positive and pass rating_at_least whatever it is; correct them where they stand for something else"
        )
        yield Finding("junk-ratings", "warning", len(rows), message, examples)


def _examine_times(dataset: Dataset) -> Iterable[Finding]:
    times = dataset.interactions.timestamps
    if times is not None and len(times) and times.min() >= 0 and times.max() < _YEAR:
        message = (
            f"all {counted(len(times), 'moment')} lie in 1970: the timestamps may be order numbers, years or days; "
            "their order is used, but since and until select nothing"
        )
        yield Finding("moments-in-1970", "warning", len(times), message)


def _examine_features(catalog: Catalog) -> Iterable[Finding]:
    for modality, path in catalog.shipped.items():
        try:
            rows = read_rows(path, catalog)
        except DataError as error:
            yield Finding("unusable-features", "error", 1, str(error), (str(path),))
            continue
        broken = broken_mask(rows)
        yield from _feature_rows("broken-features", "error", catalog, modality, path, broken, f"hold {BROKEN}")
        yield from _feature_rows(
            "zero-features", "note", catalog, modality, path, (rows == 0).all(axis=1), "are all zero"
        )


def _feature_rows(
    kind: str,
    level: str,
    catalog: Catalog,
    modality: Modality,
    path: Path,
    mask: Bool[np.ndarray, " items"],
    problem: str,
) -> Iterable[Finding]:
    rows = np.flatnonzero(mask)
    if len(rows):
        message = f"{counted(len(rows), 'row')} of the {modality} features in {path.name} {problem}"
        yield Finding(kind, level, len(rows), message, tuple(f"item {catalog.ids[row]}" for row in rows[:10]))
