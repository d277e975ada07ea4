"""Remote folder: a folder in an object store that files are written to, each whole or absent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from lmm4rec.core.errors import DataError, StorageError
from lmm4rec.data.buckets import bucket_errors, is_bucket_absent, open_bucket, parsed
from lmm4rec.data.object_store import download, listed


class RemoteFolder:
    """The objects below an address, by their names in it. Every error is a StorageError that names the object."""

    def __init__(self, address: str) -> None:
        """Raises ConfigError where it is no address of an object store."""
        self.place = parsed(address)

    def __str__(self) -> str:
        return str(self.place)

    def check(self) -> None:
        """Write, read and remove a small object, before the work that is to write here.

        Raises:
            StorageError: one of the three fails; it says which and why.
            MissingExtraError: the extra `cloud` is not installed.
        """
        name, content = f".probe-{uuid4().hex}", b"lmm4rec"
        with self._errors(name, "nothing can be written"):
            self._put(name, content)
        if self.read(name) != content:
            raise StorageError(f"{self.place / name} is not there just after it was written")
        self.remove([name])

    def files(self, folder: str = "") -> dict[str, Mapping[str, Any]]:
        """The objects in the folder, or in one below it: name in that folder -> facts (`size`, `last_modified`)."""
        place = self.place / folder if folder else self.place
        with self._errors(folder, "the list of objects cannot be read"):
            return listed(self._bucket, place)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes | None:
        """The bytes of an object, or a range of them; None where there is no such object."""
        import obstore

        key = (self.place / name).key
        with self._errors(name, "an object cannot be read"):
            try:
                if end is None:
                    return bytes(obstore.get(self._bucket, key).bytes())
                return bytes(obstore.get_range(self._bucket, key, start=start, end=end))
            except FileNotFoundError as error:
                if is_bucket_absent(error):
                    raise
                return None

    def download(self, name: str, path: Path) -> bool:
        """Write an object to a path; False where there is no such object."""
        with self._errors(name, "an object cannot be read"):
            try:
                download(self._bucket, (self.place / name).key, path)
            except FileNotFoundError as error:
                if is_bucket_absent(error):
                    raise
                return False
        return True

    def upload(self, path: Path, name: str) -> None:
        """Write a file to an object.

        Raises:
            StorageError: that fails; the message says that the file here is whole.
        """
        hint = f"an object cannot be written; {path} is whole, and the same command uploads what is missing"
        with self._errors(name, hint):
            self._put(name, path)

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects; those that are not there are passed over."""
        import obstore

        with self._errors(names[0] if names else "", "an object cannot be removed"):
            obstore.delete(self._bucket, [(self.place / name).key for name in names])

    @cached_property
    def _bucket(self) -> Any:
        return open_bucket(self.place)

    def _put(self, name: str, content: bytes | Path) -> None:
        import obstore

        obstore.put(self._bucket, (self.place / name).key, content)

    @contextmanager
    def _errors(self, name: str, failed: str) -> Iterator[None]:
        place = self.place / name if name else self.place
        self._bucket  # noqa: B018 - a missing extra comes first
        try:
            with bucket_errors(place):
                yield
        except DataError as error:
            raise StorageError(f"{error} ({failed})") from None
