"""Remote copy: a run or study in an object store, done in a folder of this machine and copied there as it goes on."""

from __future__ import annotations

import logging
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path, PurePosixPath

from lmm4rec.core.errors import ConfigError, StorageError
from lmm4rec.core.files import cache_folder
from lmm4rec.data.remote_folder import RemoteFolder
from lmm4rec.training.callbacks import Callback
from lmm4rec.training.history import Row

_FIRST, _LAST = ("experiment.toml", "study.json"), "metrics.json"
_HISTORY, _CHECKPOINT, _INDEX = "history.jsonl", "checkpoint/", ".index.json"
_DATABASE, _SIDE_FILES = ".db", ("-journal", "-wal", "-shm")
_NOT_COPIED = "running.json"  # the tasks that a study does now, on this machine
_TIME_SHARE = 0.1  # of the work that copying may take


class RemoteCopy:
    """A folder of this machine, and its copy at an address, which is a resumable or a finished run at any moment."""

    def __init__(self, address: str) -> None:
        """Raises ConfigError where it is no address of an object store."""
        self.address, self._remote = address, RemoteFolder(address)
        place = self._remote.place
        self.path = cache_folder() / "work" / place.scheme / place.bucket / place.key
        self._copied: dict[str, tuple[int, int]] = {}  # the size and the time of each file when it was copied
        self._there: set[str] = set()
        self._next = 0.0  # time of the next copy, at the earliest
        self._of_others: Sequence[str] = ()

    def leave(self, parts: Sequence[str]) -> None:
        """Leave these files and folders, which other machines write, to them; what is there of them is fetched."""
        self._of_others = parts

    def begin(self, *, resume: bool) -> None:
        """Check access; to `resume`, copy what is there to this machine, unless the folder here is further.

        Raises:
            ConfigError: there is something, or only in the folder here, and `resume` is False.
            StorageError: an object cannot be written, read or removed.
        """
        self._remote.check()
        self._there = {name for name in self._remote.files() if _is_copied(name)}
        if self._there and not resume:
            raise ConfigError(
                f"{self.address} already holds a run or study: add --resume to go on with it, or name another with -o"
            )
        here = {name: self.path / name for name in self._files()}
        if here and not resume:  # it may be whole and not copied, so it is not removed
            raise ConfigError(
                f"{self.address} is empty, but this machine has what ran there, deleted at the address or not copied: "
                f"add --resume to go on with it, name another with -o, or delete {self.path}"
            )
        if self._there and _progress(self._there, self._remote.read) > _progress(here, lambda x: here[x].read_bytes()):
            self._fetch(here)

    def copy(self) -> None:
        """Copy files that have changed, and remove those that are gone.

        Raises:
            StorageError: that fails; the message says that the files here are whole.
        """
        files = {name: facts for name, facts in self._files().items() if self._is_own(name)}
        if not files:  # removed, since nothing was done
            return
        began, gone = time.monotonic(), set(filter(self._is_own, self._there - files.keys()))
        self._remove(name for name in gone if _CHECKPOINT not in name)
        for name in sorted(files, key=_order):
            if self._copied.get(name) != files[name] and (self.path / name).exists():
                self._upload(name)
                self._copied[name] = files[name]
                self._there.add(name)
        self._remove(name for name in gone if _CHECKPOINT in name)  # parts which the index no longer names
        self._next = time.monotonic() + (time.monotonic() - began) / _TIME_SHARE

    def copy_if_due(self) -> None:
        """Copy unless that took much of the time; a failure is logged, and the next copy tries again."""
        if time.monotonic() >= self._next:
            try:
                self.copy()
            except StorageError as error:
                logging.getLogger(__name__).warning("%s. The work goes on; it is tried again", error)

    def fetch(self, part: str) -> None:
        """Copy to this machine what another one wrote: a file, or a folder with all that is in it."""
        if self._remote.download(part, self.path / part):
            names = [part]
        else:
            names = sorted((f"{part}/{name}" for name in self._remote.files(part) if _is_copied(name)), key=_order)
            for name in names:  # metrics last: a kill leaves what is fetched again
                self._remote.download(name, self.path / name)
        self._there.update(names)
        self._copied.update({name: _size_and_time(self.path / name) for name in names})

    def put(self, name: str) -> None:
        """Copy one file to the object store."""
        self._remote.upload(self.path / name, name)

    def names(self) -> list[str]:
        """The files in the object store."""
        return list(self._remote.files())

    def holds(self, name: str) -> bool:
        """Whether a file is in the object store."""
        return self._remote.read(name) is not None

    def _is_own(self, name: str) -> bool:
        return not any(name == part or name.startswith(f"{part}/") for part in self._of_others)

    def _upload(self, name: str) -> None:
        path = self.path / name
        if path.suffix != _DATABASE:
            self._remote.upload(path, name)
            return
        with tempfile.TemporaryDirectory() as folder:  # a worker may be writing to the database
            snapshot = Path(folder) / path.name
            with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(snapshot)) as target:
                source.backup(target)
            self._remote.upload(snapshot, name)

    def _remove(self, names: Iterator[str]) -> None:
        if gone := sorted(names):
            self._remote.remove(gone)
            self._there -= set(gone)

    def _fetch(self, here: Mapping[str, Path]) -> None:
        """Make the folder here that of the object store; a kill in the middle leaves one that is less far."""
        for name in sorted(here, key=_order, reverse=True):
            if name not in self._there or name.endswith((_LAST, _HISTORY)):
                here[name].unlink()
        for name in sorted(self._there, key=lambda name: (name.endswith((_LAST, _HISTORY)), name)):
            self._remote.download(name, self.path / name)
        self._copied = self._files()

    def _files(self) -> dict[str, tuple[int, int]]:
        """The files of the folder that are copied: name -> size and time of change."""
        paths = {path.relative_to(self.path).as_posix(): path for path in self.path.rglob("*") if path.is_file()}
        return {name: _size_and_time(path) for name, path in paths.items() if _is_copied(name)}


class RemoteCopier(Callback):
    """Copies a run to its address after epochs."""

    def __init__(self, copy: RemoteCopy) -> None:
        self.remote = copy

    def on_epoch_end(self, row: Row) -> None:
        """Copy what is saved so far."""
        self.remote.copy_if_due()


@contextmanager
def copied(copy: RemoteCopy | None) -> Iterator[None]:
    """A context of work in a folder, which is copied to its address at the end, after an error too; None: nowhere.

    Before it the copy has begun (`RemoteCopy.begin`), and the folder is not one that is refused.

    Raises:
        StorageError: the address cannot be written.
    """
    if copy is None:
        yield
        return
    try:
        yield
    except BaseException as error:
        try:
            copy.copy()
        except StorageError as later:
            error.add_note(str(later))
        raise
    try:
        copy.copy()
    except StorageError as error:
        error.add_note("The work is done; with --resume the command only copies it")
        raise


def _size_and_time(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _is_copied(name: str) -> bool:
    """Whether a file is part of the work: not a lock, nor one that is written beside."""
    parts = PurePosixPath(name).parts
    return not any(part.startswith(".") for part in parts) and not name.endswith((_NOT_COPIED, *_SIDE_FILES))


def _order(name: str) -> tuple[int, str]:
    """The order in which files are copied: what makes a run one, its files, indices of files, metrics."""
    file = PurePosixPath(name).name
    return (0 if file in _FIRST else 3 if file == _LAST else 2 if file.endswith(_INDEX) else 1), name


def _progress(names: Mapping[str, object] | set[str], read: Callable[[str], bytes | None]) -> tuple[int, int, int]:
    """How far the work is: files of metrics, epochs, and whether there is anything."""
    epochs = (read(_HISTORY) or b"").count(b"\n") if _HISTORY in names else 0
    return sum(name.endswith(_LAST) for name in names), epochs, int(bool(names))
