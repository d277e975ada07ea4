"""Lock on a folder: one process works in it at a time, on one machine or on several that share it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from lmm4rec.core.errors import ConfigError, LMM4RecError
from lmm4rec.core.files import read_json, storage_errors, write_json

LOCK_FILES = frozenset({".lock", ".lock.json"})  # in the folder while it is locked


@contextmanager
def locked_folder(folder: Path, *, doing: str, advice: str = "wait until it ends") -> Iterator[None]:
    """A context in which no other process locks the folder; the system releases a process's lock however it ends.

    The folder is created, and removed again where nothing came to lie in it. `doing` ("runs it") tells others
    what this process does, and `advice` is what to do where another one has the lock.

    Raises:
        ConfigError: another process holds the lock; it says which.
        StorageError: the folder cannot be created or written.
    """
    lock, owner = FileLock(folder / ".lock", timeout=0), folder / ".lock.json"
    with storage_errors(folder):
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire()
            except Timeout:
                raise ConfigError(f"{folder} is in use: {_described(owner)}; {advice}") from None
            if is_locked(folder):
                break
            lock.release()  # this was the file of its last owner, who has just removed it
    try:
        write_json(owner, {"pid": os.getpid(), "host": socket.gethostname(), "doing": doing})
        yield
    finally:
        for path in (owner, folder / ".lock"):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # it is not empty
            folder.rmdir()
        lock.release()


def is_locked(folder: Path) -> bool:
    """Whether a process works in the folder now."""
    if not (folder / ".lock").exists():
        return False
    try:
        with FileLock(folder / ".lock", timeout=0):
            return False
    except Timeout:
        return True


def _described(path: Path) -> str:
    """Which process holds a lock, and what it does."""
    try:
        owner = read_json(path)
    except LMM4RecError:
        return "another process has just begun"
    return f"process {owner['pid']} on {owner['host']} {owner['doing']}"
