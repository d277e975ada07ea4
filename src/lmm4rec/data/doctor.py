"""All that can be said about a data set without training on it: what is odd, what is broken, and how much there is."""

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
from lmm4rec.data.feature_files import broken_mask, read_rows
from lmm4rec.data.findings import Finding, counted
from lmm4rec.data.images import HugeImageError, ImageFile, MissingImageError, NotAnImageError

FEW = 5  # fewer interactions than this say little about a user or an item
TINY = 32  # pixels of the shorter side, below which little can be seen


class _Kind(NamedTuple):
    level: str
    text: str  # what is said of so many items


_KINDS: Mapping[str, _Kind] = {
    "missing-image": _Kind("warning", "name an image file that is missing; treated as having no image"),
    "not-an-image": _Kind("warning", "name a file that is no image; treated as having no image"),
    "huge-image": _Kind("warning", "have an image with too many pixels; treated as having no image"),
    "broken-image": _Kind("warning", "have a damaged image; treated as having no image"),
    "tiny-image": _Kind("note", f"have an image with a side of less than {TINY} pixels"),
    "animated-image": _Kind("note", "have an animated image; its first frame is used"),
    "rotated-image": _Kind("note", "have an image that its camera calls rotated; it is turned upright"),
    "alpha-image": _Kind("note", "have an image with transparency; it is laid on white"),
    "cmyk-image": _Kind("note", "have a CMYK image; it is converted to RGB"),
    "gray-image": _Kind("note", "have a gray image; it is converted to RGB"),
    "deep-image": _Kind("note", "have an image of 16 bits or more; it is converted to 8 bits"),
    "duplicate-image": _Kind("note", "share their image, byte for byte, with another item"),
    "no-image": _Kind("note", "have no image"),
    "no-text": _Kind("warning", "have no words at all"),
    "duplicate-text": _Kind("note", "share all their words with another item"),
    "untouched-item": _Kind("note", "have no interaction"),
    "rare-item": _Kind("note", f"have from 1 to {FEW - 1} interactions"),
}
_FAILURES: Mapping[type[ImageError], str] = {
    MissingImageError: "missing-image",
    NotAnImageError: "not-an-image",
    HugeImageError: "huge-image",
}


def examine(dataset: Dataset) -> tuple[Finding, ...]:
    """All findings: those of reading and filtering, then on images (each is opened), texts, log and feature files."""
    noticed = [
        *_examine_images(dataset.catalog),
        *_examine_texts(dataset.catalog),
        *_examine_log(dataset),
        *_examine_features(dataset.catalog),
    ]
    closer = {finding.kind for finding in noticed}  # opening the images finds again what was missing when reading
    known = [finding for finding in dataset.findings if finding.kind not in closer]
    return (*known, *noticed)


def describe(dataset: Dataset) -> dict[str, int | float | str]:
    """The size and shape of a data set in a few named numbers."""
    log, catalog = dataset.interactions, dataset.catalog
    facts: dict[str, int | float | str] = {
        "users": dataset.n_users,
        "items": dataset.n_items,
        "interactions": len(log),
        "density": round(len(log) / max(dataset.n_users * dataset.n_items, 1), 8),
        "median per user": _median(log.user_counts(dataset.n_users)),
        "median per item": _median(log.item_counts(dataset.n_items)),
        "items with an image": int(catalog.has_image.sum()),
        "items with words": int(_has_text(catalog).sum()),
    }
    if catalog.shipped:
        facts["feature files"] = ", ".join(catalog.shipped)
    if log.timestamps is not None and len(log):
        facts["first"], facts["last"] = _day(int(log.timestamps.min())), _day(int(log.timestamps.max()))
    return facts


def _median(counts: Int64[np.ndarray, " groups"]) -> float:
    return float(np.median(counts)) if len(counts) else 0.0


def _day(moment: int) -> str:
    return str(np.datetime64(moment, "s").astype("datetime64[D]"))


def _finding(kind: str, catalog: Catalog, rows: Sequence[int], words: Mapping[int, str] | None = None) -> Finding:
    """A finding on the items of these rows; `words` adds to an example."""
    level, text = _KINDS[kind]
    named = {row: f"item {catalog.ids[row]}" for row in rows[:10]}
    examples = tuple(f"{name}: {words[row]}" if words and row in words else name for row, name in named.items())
    return Finding(kind, level, len(rows), f"{counted(len(rows), 'item')} {text}", examples)


class _Sight(NamedTuple):
    kinds: tuple[str, ...]  # what is odd about the image
    digest: str
    words: str  # the file and what is wrong with it


def _examine_images(catalog: Catalog) -> list[Finding]:
    rows = np.flatnonzero(catalog.has_image).tolist()
    images = [catalog.images[row] for row in rows]
    found: dict[str, list[int]] = defaultdict(list)
    digests: dict[str, list[int]] = defaultdict(list)
    words: dict[int, str] = {}
    bar = progress(total=len(rows), description="images", unit="image")
    with bar, ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for row, sight in zip(rows, pool.map(_look, images), strict=True):
            bar.update()
            words[row] = sight.words
            digests[sight.digest].append(row)
            for kind in sight.kinds:
                found[kind].append(row)
    found["duplicate-image"] = sorted(row for twins in digests.values() if len(twins) > 1 for row in twins)
    if rows:
        found["no-image"] = np.flatnonzero(~catalog.has_image).tolist()
    return [_finding(kind, catalog, found[kind], words) for kind in _KINDS if found[kind]]


def _look(image: ItemImage) -> _Sight:
    digest = image.digest()
    name = str(image) if isinstance(image, ImageFile) else "a drawn image"
    try:
        opened = image.open()
        oddities = image.oddities() if isinstance(image, ImageFile) else ()
    except ImageError as error:
        return _Sight((_FAILURES.get(type(error), "broken-image"),), digest, str(error))
    kinds = [f"{oddity}-image" for oddity in oddities]
    if min(opened.size) < TINY:
        kinds.append("tiny-image")
    return _Sight(tuple(kinds), digest, f"{name}, {opened.width} × {opened.height}")


def _has_text(catalog: Catalog) -> Bool[np.ndarray, " items"]:
    if not catalog.fields.width:
        return np.zeros(len(catalog), dtype=bool)
    filled = pl.any_horizontal(pl.all().str.strip_chars() != "")
    return catalog.fields.select(filled).to_series().to_numpy()


def _examine_texts(catalog: Catalog) -> list[Finding]:
    if not catalog.fields.width:
        return []
    has_text = _has_text(catalog)
    twins = catalog.fields.is_duplicated().to_numpy() & has_text
    findings = []
    for kind, mask in (("no-text", ~has_text), ("duplicate-text", twins)):
        if mask.any():
            rows = np.flatnonzero(mask).tolist()
            findings.append(_finding(kind, catalog, rows, {row: catalog.title(row) for row in rows[:10]}))
    for column in catalog.fields.columns:
        empty = int((catalog.fields[column].str.strip_chars() == "").sum())
        if empty:
            message = f"{counted(empty, 'item')} have an empty '{column}'"
            findings.append(Finding("empty-text", "note", empty, message))
    return findings


def _examine_log(dataset: Dataset) -> list[Finding]:
    users = dataset.interactions.user_counts(dataset.n_users)
    items = dataset.interactions.item_counts(dataset.n_items)
    findings = [
        _finding(kind, dataset.catalog, np.flatnonzero(mask).tolist())
        for kind, mask in (("untouched-item", items == 0), ("rare-item", (items > 0) & (items < FEW)))
        if mask.any()
    ]
    few = np.flatnonzero(users < FEW)
    if len(few):
        message = f"{counted(len(few), 'user')} have fewer than {FEW} interactions"
        findings.append(
            Finding("rare-user", "note", len(few), message, tuple(f"user {dataset.users[row]}" for row in few[:10]))
        )
    return findings


def _examine_features(catalog: Catalog) -> Iterable[Finding]:
    for modality, path in catalog.shipped.items():
        try:
            rows = read_rows(path, catalog)
        except DataError as error:
            yield Finding("unusable-features", "error", 1, str(error), (str(path),))
            continue
        broken = broken_mask(rows)
        yield from _feature_rows("broken-features", "error", catalog, modality, path, broken, "hold NaN or infinity")
        yield from _feature_rows(
            "zero-features", "note", catalog, modality, path, (rows == 0).all(axis=1), "are all zero"
        )


def _feature_rows(
    kind: str, level: str, catalog: Catalog, modality: Modality, path: Path, mask: Bool[np.ndarray, " items"], what: str
) -> Iterable[Finding]:
    rows = np.flatnonzero(mask)
    if len(rows):
        message = f"{counted(len(rows), 'row')} of the {modality} features in {path.name} {what}"
        yield Finding(kind, level, len(rows), message, tuple(f"item {catalog.ids[row]}" for row in rows[:10]))
