"""Files of recommendations, written part by part: CSV, JSON lines or Parquet by the suffix."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import atomic, require_writable
from lmm4rec.core.parquet_parts import Append, parquet_in_parts

STDOUT = Path("-")
SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")


def require_file(out: Path) -> None:
    """Refuse a file whose suffix names no format, or that cannot be written.

    Raises:
        ConfigError: it names the suffixes there are.
        StorageError: it names path and cause.
    """
    if out == STDOUT:
        return
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--out {out}: the suffix says the format, which is {', '.join(SUFFIXES)}")
    require_writable(out)


@contextmanager
def appended(out: Path) -> Iterator[Append]:
    """A function that appends a frame to a file, which is there, whole, when the block ends; "-" is CSV to stdout."""
    if out == STDOUT:
        yield _csv(sys.stdout.buffer)
        sys.stdout.flush()
        return
    with atomic(out) as beside:
        if out.suffix.lower() == ".parquet":
            with parquet_in_parts(beside) as append:
                yield append
        else:
            with beside.open("wb") as file:
                yield _csv(file) if out.suffix.lower() == ".csv" else lambda frame: frame.write_ndjson(file)


def _csv(file: object) -> Append:
    header = [True]  # until the first part is written

    def append(frame: pl.DataFrame) -> None:
        frame.write_csv(file, include_header=header.pop() if header else False)  # type: ignore[call-overload]

    return append
