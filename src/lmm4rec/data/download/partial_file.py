"""A file under way: its bytes survive interruptions, and it gets its name when it is complete and checked."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lmm4rec.core.files import write_json
from lmm4rec.data.download.file_signatures import describe, ending_of
from lmm4rec.data.download.jobs import AttemptError, Job, Outcome


@dataclass(frozen=True)
class PartialFile:
    """The bytes received so far, and in a second file the version (ETag or date) that they are of."""

    job: Job

    @property
    def path(self) -> Path:
        """The file of the bytes."""
        return self.job.target.with_name(f".{self.job.target.name}.part")

    @property
    def version_file(self) -> Path:
        """The file of the version."""
        return self.path.with_name(f"{self.path.name}.json")

    def size(self) -> int:
        """The number of bytes."""
        return self.path.stat().st_size if self.path.is_file() else 0

    def resumable(self) -> int:
        """The number of bytes that the next attempt need not fetch again: 0 where their version is unknown."""
        return self.size() if self._version() else 0

    def headers(self) -> dict[str, str]:
        """The request headers that ask for the rest of the same version; none where everything is wanted."""
        size = self.resumable()
        return {"Range": f"bytes={size}-", "If-Range": self._version()} if size else {}

    def _version(self) -> str:
        try:
            saved = json.loads(self.version_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return ""
        return str(saved.get("mark", "")) if isinstance(saved, dict) and saved.get("url") == self.job.url else ""

    def open(self, headers: Mapping[str, str], start: int) -> BinaryIO:
        """The file to write to: appended to from `start` on, from nothing where that is 0."""
        if start:
            return self.path.open("ab")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        version = headers.get("etag", "")
        version = version if version and not version.startswith("W/") else headers.get("last-modified", "")
        write_json(self.version_file, {"url": self.job.url, **({"mark": version} if version else {})})
        return self.path.open("wb")

    def discard(self) -> None:
        """Delete both files."""
        self.path.unlink(missing_ok=True)
        self.version_file.unlink(missing_ok=True)

    def check_signature(self) -> None:
        """Refuse a file that does not begin as its kind does.

        Raises:
            AttemptError: it begins otherwise, such as an error page of the server.
        """
        with self.path.open("rb") as file:
            head = file.read(512)
        if ending_of(self.job.kind, head) is None:
            self.discard()
            expected = (
                "an image (JPEG, PNG, GIF, WebP, AVIF, TIFF or BMP)"
                if self.job.kind == "image"
                else f"a {self.job.kind} file"
            )
            raise AttemptError(f"it is {describe(head)}, expected {expected}")

    def finish(self) -> Outcome:
        """Check the complete file and give it its name.

        Raises:
            AttemptError: its first bytes or its checksum are wrong.
        """
        self.check_signature()
        job = self.job
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            ending = ending_of(job.kind, file.read(512)) or ""
            os.fsync(file.fileno())
        if job.sha256 and digest != job.sha256:
            self.discard()
            raise AttemptError(f"damaged: SHA-256 is {digest}, expected {job.sha256}", again=True)
        size, target = self.size(), job.target.with_name(job.target.name + ending)
        self.path.replace(target)
        self.version_file.unlink(missing_ok=True)
        return Outcome(job.key, job.url, "fetched", target.name, size, digest)
