"""What has come of a file so far: kept through interruptions, renamed when it is whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lmm4rec.core.files import write_json
from lmm4rec.data.download.jobs import AttemptError, Job, Outcome
from lmm4rec.data.download.kinds import HEAD, describe, ending_of


@dataclass(frozen=True)
class Part:
    """The bytes, and which version of the file they are of, in two files beside its place."""

    path: Path
    url: str

    @staticmethod
    def of(job: Job) -> Part:
        """The part of a job's file."""
        job.target.parent.mkdir(parents=True, exist_ok=True)
        return Part(job.target.with_name(f".{job.target.name}.part"), job.url)

    @property
    def note(self) -> Path:
        """The file that says which version this is."""
        return self.path.with_name(f"{self.path.name}.json")

    def kept(self) -> int:
        """How many bytes the next attempt need not fetch again."""
        return self.path.stat().st_size if self.path.is_file() and self._mark() else 0

    def headers(self) -> dict[str, str]:
        """What to ask for: the rest of the same version, else everything."""
        size = self.kept()
        return {"Range": f"bytes={size}-", "If-Range": self._mark()} if size else {}

    def _mark(self) -> str:
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        return str(note["mark"]) if isinstance(note, dict) and note.get("url") == self.url and "mark" in note else ""

    def open(self, headers: Mapping[str, str], start: int) -> BinaryIO:
        """The file to write to: its end where the server goes on, else from nothing."""
        if start:
            return self.path.open("ab")
        mark = headers.get("etag", "")
        mark = mark if mark and not mark.startswith("W/") else headers.get("last-modified", "")
        write_json(self.note, {"url": self.url, **({"mark": mark} if mark else {})})
        return self.path.open("wb")

    def discard(self) -> None:
        """Forget what has come."""
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def finish(self, job: Job) -> Outcome:
        """Give the file its name, once its checksum is right."""
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            ending = ending_of(job.kind, file.read(HEAD))
            os.fsync(file.fileno())
        if job.sha256 and digest != job.sha256:
            self.discard()
            raise AttemptError(f"damaged: SHA-256 is {digest}, expected {job.sha256}", again=True)
        target = job.target.with_name(job.target.name + (ending or ""))
        size = self.path.stat().st_size
        self.path.replace(target)
        self.note.unlink(missing_ok=True)
        return Outcome(job.key, job.url, "fetched", target.name, size, digest)

    def check_head(self, job: Job) -> None:
        """Refuse what does not begin as a file of its kind does.

        Raises:
            AttemptError: it doesn't, as where a server answers with a page that says sorry.
        """
        with self.path.open("rb") as file:
            head = file.read(512)
        if ending_of(job.kind, head[:HEAD]) is None:
            self.discard()
            expected = "an image (JPEG, PNG, GIF or WebP)" if job.kind == "image" else f"a {job.kind} file"
            raise AttemptError(f"it is {describe(head)}, expected {expected}")
