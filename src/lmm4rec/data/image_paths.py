"""Image files that a table names: found inside one folder, under other spellings of their name too."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lmm4rec.data.download.file_signatures import IMAGE_ENDINGS
from lmm4rec.data.findings import Finding, agreeing, counted
from lmm4rec.data.images import ImageFile


def locate(
    names: Sequence[str | None], folder: Path, ids: Sequence[str]
) -> tuple[tuple[ImageFile | None, ...], list[Finding]]:
    """The image of each name inside `folder`, and findings on names outside it or without a file.

    A name outside the folder (an absolute path, `..`, a symbolic link) is refused: that item has no image. A missing
    file keeps its path, so that it is read once it is there. The items' `ids` stand in the findings' examples.

    Where there is no file of that very name, other spellings are tried: with slashes for the backslashes of Windows,
    without spaces around it, percent-decoded, without a query or a first slash, the first of several, and in other
    case, in another Unicode form or with an ending where one file alone has it.
    """
    resolver = _PathResolver(folder)
    images: list[ImageFile | None] = []
    outside, missing, respelled = [], [], []
    for name, id_ in zip(names, ids, strict=True):
        spelled = resolver.spelling(name) if name else None
        path = resolver.path(spelled or name.replace("\\", "/")) if name else None
        if name and path is None:
            outside.append(f"item {id_}: {name[:200]}")
        elif name and spelled is None:
            missing.append(f"item {id_}: {name[:200]}")
        elif spelled and spelled != name:
            respelled.append(f"item {id_}: {name}, read as {spelled}")
        images.append(None if path is None else ImageFile(path, resolver.root))
    findings = []
    if outside:
        count = counted(len(outside), "image path")
        message = f"{count} {agreeing(len(outside), 'are')} outside {folder} or invalid; such items have no image"
        findings.append(Finding("image-outside-folder", "warning", len(outside), message, tuple(outside[:10])))
    if missing:
        message = f"{counted(len(missing), 'image file')} missing in {folder}; such items count as having no image"
        findings.append(Finding("missing-image", "warning", len(missing), message, tuple(missing[:10])))
    if respelled:
        message = f"{counted(len(respelled), 'image')} found in {folder} under another spelling of the name"
        findings.append(Finding("image-respelled", "note", len(respelled), message, tuple(respelled[:10])))
    return tuple(images), findings


def named_by(names: Iterable[str | None]) -> Callable[[str], bool]:
    """A test of whether a file's name, folders included, may be one of these images under any spelling."""
    stems = {stem for name in names if name for spelled in _spellings(name) for stem in _stems(spelled)}
    return lambda name: not stems.isdisjoint(_stems(name))


def _stems(name: str) -> set[str]:
    """The last part of a name, with and without its ending."""
    base = _folded(name.rpartition("/")[2])
    return {base, os.path.splitext(base)[0]}  # noqa: PTH122 (a name, not a path)


class _PathResolver:
    """Paths of names inside one folder; each parent folder is resolved once, since a catalog has few of them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder.resolve()
        self._parents: dict[str, Path] = {}
        self._listings: dict[Path, dict[str, list[str]]] = {}

    def path(self, name: str) -> Path | None:
        """The path of a name, or None where it is outside the folder or invalid."""
        if "\0" in name or len(name) > _LONGEST:  # the second is an image in itself: "data:image/png;base64,…"
            return None
        parent, base = os.path.split(name)
        if base == "..":
            parent, base = name, ""
        try:
            if parent not in self._parents:
                self._parents[parent] = (self.root / parent).resolve()
            path = self._parents[parent] / base
            target = path.resolve() if path.is_symlink() else path
        except (OSError, RuntimeError, ValueError):  # a name too long, links in a circle
            return None
        return path if target.is_relative_to(self.root) else None

    def spelling(self, name: str) -> str | None:
        """The spelling of a name under which there is a regular file; None where there is none."""
        for spelled in _spellings(name):
            path = self.path(spelled)
            if path is not None and self.exists(path):
                return spelled
        for spelled in _spellings(name):
            path = self.path(spelled)
            if path is not None and (same := self._same(path)):
                return str(Path(spelled).with_name(same))
        return None

    def _same(self, path: Path) -> str | None:
        """The one name in the path's folder that differs from its own in case, Unicode form or ending alone."""
        folder = path.parent
        if not path.name:
            return None
        if folder not in self._listings:
            listing: dict[str, list[str]] = {}
            try:
                for entry in os.listdir(folder):  # noqa: PTH208 (names alone)
                    listing.setdefault(_folded(entry), []).append(entry)
                    stem, ending = os.path.splitext(_folded(entry))  # noqa: PTH122 (a name, not a path)
                    if ending in IMAGE_ENDINGS:
                        listing.setdefault(stem + _ANY, []).append(entry)
            except OSError:
                pass
            self._listings[folder] = listing
        listing = self._listings[folder]
        same = listing.get(_folded(path.name)) or listing.get(_folded(path.name) + _ANY, [])
        return same[0] if len(same) == 1 and self.exists(folder / same[0]) else None

    @staticmethod
    def exists(path: Path) -> bool:
        """Whether there is a regular file."""
        try:
            return stat.S_ISREG(path.stat().st_mode)
        except OSError:
            return False


_LONGEST = 1000  # characters of a path
_ANY = "\0"  # stands for the ending of an image


def _spellings(name: str) -> Iterator[str]:
    """The name, and what it may stand for."""
    yield name
    if name.lower().startswith("file://"):
        name = unquote(urlsplit(name).path)
        yield name
    bare = name.strip()
    yield bare
    yield bare.replace("\\", "/")
    slashed = unquote(bare.replace("\\", "/"))
    yield slashed
    yield slashed.partition("?")[0]
    yield slashed.lstrip("/")  # a path below the root of a web site
    yield re.split(r"\s*[|;,]\s*", slashed)[0]  # of several names the first


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
