"""Parquet files that are written part by part, so that no more than one part is in memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import polars as pl

Append: TypeAlias = Callable[[pl.DataFrame], None]


@contextmanager
def parquet_in_parts(path: Path) -> Iterator[Append]:
    """A function that appends a frame to a Parquet file, which is there when the block ends."""
    folder = path.with_suffix(".parts")
    folder.mkdir()
    parts: list[Path] = []

    def append(frame: pl.DataFrame) -> None:
        parts.append(folder / f"{len(parts)}.parquet")
        frame.write_parquet(parts[-1])

    try:
        yield append
        pl.scan_parquet(parts, glob=False).sink_parquet(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
