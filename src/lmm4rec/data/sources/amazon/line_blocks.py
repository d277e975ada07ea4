"""Blocks of lines of large files, plain or gzip, and counts of the lines that were set aside."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from lmm4rec.core.errors import DataError
from lmm4rec.core.progress import progress
from lmm4rec.data.findings import Finding, counted

BLOCK = 1 << 24  # bytes of lines at a time
LONGEST = 1 << 26  # bytes of one line


def blocks(path: Path, size: int = BLOCK) -> Iterator[tuple[int, bytes]]:
    """Whole lines of a file, about `size` bytes at a time, each with the number (from 1) of its first line.

    Raises:
        DataError: the file is cut off or damaged, or has a line that is longer than `LONGEST`.
    """
    first, rest = 1, b""
    with path.open("rb") as raw, _bar(path) as bar:
        file = gzip.GzipFile(fileobj=raw) if path.suffix == ".gz" else raw
        while block := _read(file, size, path, first):
            bar.update(raw.tell() - bar.n)
            cut = block.rfind(b"\n") + 1
            if cut:
                lines = rest + block[:cut]
                yield first, lines
                first, rest = first + lines.count(b"\n"), block[cut:]
            elif len(rest) + len(block) > LONGEST:
                raise DataError(f"{path} line {first:,} is longer than {LONGEST:,} bytes; expected one object a line")
            else:
                rest += block
        if rest:
            yield first, rest


def _read(file: gzip.GzipFile | IO[bytes], size: int, path: Path, line: int) -> bytes:
    try:
        return file.read(size)
    except (EOFError, zlib.error, OSError) as error:
        advice = "delete it and fetch it again with `lmm4rec data download`"
        raise DataError(f"{path} is cut off or damaged after line {line:,} ({error}); {advice}") from None


def _bar(path: Path) -> Any:
    bar = progress(total=path.stat().st_size, description=f"reading {path.name}", unit="B", after_s=2.0)
    bar.unit_scale = True
    return bar


class SkipCounts:
    """Counts of lines that were set aside, with ten examples of each kind."""

    def __init__(self, label: str) -> None:
        """`label` is the name of the file in messages."""
        self.label = label
        self.counts: dict[str, int] = {}
        self.examples: dict[str, list[str]] = {}

    def add(self, kind: str, example: str) -> None:
        """Count one more of a kind."""
        self.counts[kind] = self.counts.get(kind, 0) + 1
        shown = self.examples.setdefault(kind, [])
        if len(shown) < 10:
            shown.append(f"{self.label} {example}")

    def findings(self, *, noun: str, why: dict[str, str], level: str = "warning") -> tuple[Finding, ...]:
        """A finding for each kind; `why` gives the reason for each."""
        return tuple(
            Finding(
                kind,
                level,
                count,
                f"{counted(count, noun)} of {self.label} set aside: {why[kind]}",
                tuple(self.examples[kind]),
            )
            for kind, count in self.counts.items()
        )
