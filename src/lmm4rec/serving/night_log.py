"""Log of the nights of a live folder: `nights.jsonl`, one JSON object a night, the latest last."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmm4rec.core.files import storage_errors

FILE = "nights.jsonl"  # beside the bundle, in the live folder


def read_nights(live: Path) -> list[dict[str, Any]]:
    """The records of the nights, as `experiments.night.record` writes them; empty where there is no log.

    A line that a kill cut short is left out.
    """
    path = live / FILE
    if not path.is_file():
        return []
    records = []
    for line in path.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def append_night(live: Path, record: Mapping[str, Any]) -> None:
    """Append the record of a night; it is on disk when this returns.

    Raises:
        StorageError: the log cannot be written.
    """
    path = live / FILE
    with storage_errors(path), path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":  # a kill cut the last line short
                file.write(b"\n")
        file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
