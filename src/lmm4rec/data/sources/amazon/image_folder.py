"""Images in a folder, each named by its item's id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from lmm4rec.data.download.folders import image_files
from lmm4rec.data.findings import Finding, agreeing, counted
from lmm4rec.data.images import ImageFile


def image_stem(id_: str) -> str:
    """The name of an item's image file without its ending: the id, encoded to be safe in file names."""
    return quote(id_, safe=" ()'!,;@+=")


def find_images(
    folder: Path, ids: Sequence[str], urls: Sequence[str]
) -> tuple[tuple[ImageFile | None, ...], list[Finding]]:
    """The image of each item, and findings on items without one: not yet downloaded, or without a URL."""
    files = image_files(folder)
    root = folder.resolve()
    names = [files.get(image_stem(id_)) for id_ in ids]
    images = tuple(None if name is None else ImageFile(root / name, root) for name in names)
    lacking = [(id_, url) for id_, url, name in zip(ids, urls, names, strict=True) if name is None]
    absent = [f"item {id_}: {url}" for id_, url in lacking if url]
    without_url = [f"item {id_}" for id_, url in lacking if not url]
    findings = []
    if absent:
        message = (
            f"{counted(len(absent), 'item')} with the URL of an image but no file in {folder}; treated as having "
            "no image, `lmm4rec data download` fetches them"
        )
        findings.append(Finding("image-not-fetched", "warning", len(absent), message, tuple(absent[:10])))
    if without_url:
        has = agreeing(len(without_url), "have")
        message = f"{counted(len(without_url), 'item')} {has} neither an image nor the URL of one"
        findings.append(Finding("no-image-address", "warning", len(without_url), message, tuple(without_url[:10])))
    return images, findings
