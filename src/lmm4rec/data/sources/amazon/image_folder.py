"""Images in a folder, each called by its item's id: where they are, and which items have none."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from lmm4rec.data.findings import Finding, counted
from lmm4rec.data.images import ImageFile

ENDINGS = (".jpg", ".png", ".gif", ".webp", ".jpeg", ".bmp")


def image_stem(id_: str) -> str:
    """What the file of an item's image is called, without its ending: the id, safe as the name of a file."""
    return quote(id_, safe=" ()'!,;@+=")


def find_images(
    folder: Path, ids: Sequence[str], urls: Sequence[str]
) -> tuple[tuple[ImageFile | None, ...], list[Finding]]:
    """The image of each item, and findings on items that have none: not yet fetched, or never had an address."""
    files = _files(folder)
    root = folder.resolve()
    names = [files.get(image_stem(id_)) for id_ in ids]
    images = tuple(None if name is None else ImageFile(root / name, root) for name in names)
    lacking = [(id_, url) for id_, url, name in zip(ids, urls, names, strict=True) if name is None]
    absent = [f"item {id_}: {url}" for id_, url in lacking if url]
    nowhere = [f"item {id_}" for id_, url in lacking if not url]
    findings = []
    if absent:
        message = (
            f"{counted(len(absent), 'item')} with the address of an image but no file in {folder}; treated as having "
            "no image, `lmm4rec data download` fetches them"
        )
        findings.append(Finding("image-not-fetched", "warning", len(absent), message, tuple(absent[:10])))
    if nowhere:
        message = f"{counted(len(nowhere), 'item')} have neither an image nor the address of one"
        findings.append(Finding("no-image-address", "warning", len(nowhere), message, tuple(nowhere[:10])))
    return images, findings


def _files(folder: Path) -> dict[str, str]:
    """Stem -> name of the image files in a folder; of several of one stem the first kind in `ENDINGS`."""
    if not folder.is_dir():
        return {}
    found: dict[str, str] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            stem, ending = os.path.splitext(entry.name)  # noqa: PTH122 (an entry, not a path)
            ending = ending.lower()
            if ending not in ENDINGS or entry.name.startswith("."):
                continue
            if stem not in found or ENDINGS.index(ending) < ENDINGS.index(os.path.splitext(found[stem])[1].lower()):  # noqa: PTH122
                found[stem] = entry.name
    return found
