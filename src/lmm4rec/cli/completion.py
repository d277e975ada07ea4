"""Shell completion of conf files, run folders and model names; where nothing fits, the shell completes file names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_DEPTH = 2  # folders below the one that is being typed
_MOST = 200  # candidates


def confs(incomplete: str) -> list[str]:
    """The conf files whose path begins with the text, also those in folders below."""
    return [str(path) for path in _below(incomplete) if path.suffix == ".conf"][:_MOST]


def trained(incomplete: str) -> list[str]:
    """The run folders and bundles whose path begins with the text."""
    return [str(path) for path in _below(incomplete) if _has_bundle(path)][:_MOST]


def models(incomplete: str) -> list[str]:
    """The names of recommenders, encoders and data sources that begin with the text."""
    from lmm4rec.cli.components import listed
    from lmm4rec.core.registry import ENCODERS, RECOMMENDERS, SOURCES

    names = {one.name for registry in (RECOMMENDERS, ENCODERS, SOURCES) for one in listed(registry)}
    return sorted(name for name in names if name.startswith(incomplete.lower()))


def _has_bundle(path: Path) -> bool:
    return (path / "bundle" / "bundle.json").is_file() or (path.name != "bundle" and (path / "bundle.json").is_file())


def _below(incomplete: str) -> Iterator[Path]:
    """The paths that begin with the text, and those in the folders among them; hidden ones are left out."""
    typed = Path(incomplete)
    inside = not incomplete or incomplete.endswith("/")
    folder, start = (typed, "") if inside else (typed.parent, typed.name)
    yield from _paths(folder, start, _DEPTH)


def _paths(folder: Path, start: str, depth: int) -> Iterator[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.name.startswith(start) and path.name[0] != ".")
    except OSError:  # a folder that is not there, or may not be read
        return
    for path in found:
        yield path
        if depth and path.is_dir() and not _has_bundle(path):
            yield from _paths(path, "", depth - 1)
