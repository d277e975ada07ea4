"""Files to download, and their outcomes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lmm4rec.data.download.file_signatures import Kind


@dataclass(frozen=True)
class Job:
    """A file to download."""

    key: str  # the name in logs: an item's id, a file's name
    url: str
    target: Path  # of an image without its ending, which its bytes decide
    kind: Kind
    sha256: str = ""  # where it is known


@dataclass(frozen=True)
class Outcome:
    """The result of a job, a row of the download log."""

    key: str
    url: str
    status: str  # "fetched" | "present" | "failed"
    file: str = ""
    size: int = 0
    sha256: str = ""
    attempts: int = 0
    error: str = ""


class StoppedError(Exception):
    """The download was asked to stop; partial files stay for the next call."""


@dataclass(eq=False)
class AttemptError(Exception):
    """A failed attempt; `again` says whether another may succeed, `wait_s` how long the server asks to wait."""

    message: str
    again: bool = False
    wait_s: float = 0.0
