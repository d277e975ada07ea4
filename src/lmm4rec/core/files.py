"""Atomic files: written beside, then renamed, so that there is the old one or the new one; errors of the disk."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs

from lmm4rec.core.errors import CheckpointError, StorageError

_CAUSES = {
    errno.ENOSPC: "cannot be written: the disk is full",
    errno.EDQUOT: "cannot be written: the disk quota is used up",
    errno.EFBIG: "cannot be written: the file is too large",
    errno.EROFS: "cannot be written: the file system is read-only",
    errno.EACCES: "cannot be opened: permission denied",
    errno.EPERM: "cannot be opened: the operation is not permitted",
    errno.EIO: "cannot be read or written: the device reports an error",
    errno.ENAMETOOLONG: "has too long a name",
    errno.EISDIR: "is a folder; expected a file",
    errno.ENOTDIR: "is a file; expected a folder",
    errno.EEXIST: "is a file; expected a folder",  # of mkdir with exist_ok
}
_FULL = re.compile(  # SQLite, NumPy and the end of a Parquet file, without a number
    r"disk is full|\d+ requested and \d+ written|Invalid thrift: transport error"
)
_BROKEN = re.compile("disk I/O error")  # SQLite, without a number
_WRAPPED = re.compile(r"\(os error (\d+)\)|\[Errno (\d+)\]")  # in errors of polars, safetensors and shutil


def storage_error(error: BaseException, path: Path | None = None) -> StorageError | None:
    """An error that names path and cause, where the disk or its permissions are the cause; else None.

    `path` is named where the error itself names none, or a file that is written beside. An error that another one
    wraps (SQLite's by Optuna) counts as well.
    """
    if isinstance(error, StorageError):
        return error
    if error.__cause__ is not None and (found := storage_error(error.__cause__, path)) is not None:
        return found
    wrapped = _WRAPPED.search(str(error))
    number = (
        error.errno
        if isinstance(error, OSError) and error.errno is not None
        else wrapped and int(wrapped[1] or wrapped[2])
    )
    for words, meant in ((_FULL, errno.ENOSPC), (_BROKEN, errno.EIO)):
        if words.search(str(error)):
            number = meant
    cause = _CAUSES.get(number or 0)
    named = getattr(error, "filename", None)
    at = path if named is None else Path(os.fsdecode(named))
    if cause is None or at is None:
        return None
    if path is not None and at.suffix in (".part", ".probe"):  # written beside, and not known to the user
        at = path
    if number in (errno.ENOTDIR, errno.EEXIST):  # the file may stand further up
        at = next((one for one in (at, *at.parents) if one.is_file()), at)
    return StorageError(f"{at} {cause}")


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """A context whose errors of the disk become a StorageError that names the path."""
    try:
        yield
    except Exception as error:
        found = storage_error(error, path)
        if found is None or found is error:
            raise
        raise found from error


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; when the block ends without an error it takes the place of `path`.

    Raises:
        StorageError: it cannot be written; the message names path and cause.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield beside
            with beside.open("rb") as file:
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            with suppress(OSError):  # where it could not even be created
                beside.unlink(missing_ok=True)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` to fill; when the block ends without an error it takes the place of `folder`.

    Raises:
        StorageError: it cannot be written; the message names path and cause.
    """
    beside, old = (folder.with_name(f".{folder.name}.{os.getpid()}.{kind}") for kind in ("part", "old"))
    with storage_errors(folder):
        for rest in (beside, old):
            shutil.rmtree(rest, ignore_errors=True)
        try:
            beside.mkdir(parents=True)
            yield beside
            if folder.exists():  # out of the way at once, since to remove it takes a while
                folder.rename(old)
            beside.rename(folder)
        finally:
            if old.exists() and not folder.exists():  # the new one could not take its place
                old.rename(folder)
            for rest in (beside, old):
                shutil.rmtree(rest, ignore_errors=True)


def require_writable(path: Path) -> None:
    """Refuse a path that cannot become a file, before the work that is to fill it.

    Raises:
        StorageError: it is a folder, a folder above it is a file, or nothing can be written there.
    """
    with storage_errors(path):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        probe = path.with_name(f".{path.name}.{os.getpid()}.probe")
        try:
            probe.touch()
        finally:
            with suppress(OSError):
                probe.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with atomic(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file whole, indented for people."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        CheckpointError: the file is missing, or is not a JSON object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} is not readable JSON ({error}); delete it to start over") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds {type(value).__name__}, expected an object")
    return value


def cache_folder() -> Path:
    """The folder of features and encoders for all runs: LMM4REC_CACHE, or else the user's cache folder."""
    named = os.environ.get("LMM4REC_CACHE")
    return Path(named) if named else Path(platformdirs.user_cache_dir("lmm4rec"))
