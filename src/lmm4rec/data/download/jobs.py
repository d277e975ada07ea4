"""What is to be fetched, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lmm4rec.data.download.kinds import Kind


@dataclass(frozen=True)
class Job:
    """A file that is wanted."""

    key: str  # what people call it: an item's id, a file's name
    url: str
    target: Path  # of an image without its ending, which its bytes decide
    kind: Kind
    sha256: str = ""  # where it is known


@dataclass(frozen=True)
class Outcome:
    """What became of a job."""

    key: str
    url: str
    status: str  # "fetched" | "present" | "failed"
    file: str = ""
    size: int = 0
    sha256: str = ""
    attempts: int = 0
    error: str = ""


class StoppedError(Exception):
    """Somebody asked the fetch to stop; what came so far stays for the next time."""


@dataclass(eq=False)
class AttemptError(Exception):
    """An attempt that came to nothing; `again` says whether another may do better."""

    message: str
    again: bool = False
    wait_s: float = field(default=0.0)
