"""SQLite files of our own: of a known kind and version, durable, and shared by any number of processes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import ClassVar

from lmm4rec.core.errors import CheckpointError

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # of Windows: SQLite's own waiting has to do
    fcntl = None

_LOCK_S = 10.0  # that a writer waits for another one


class SqliteFile:
    """An open file; a thread needs one of its own, or a lock. A subclass is a kind of file."""

    application: ClassVar[int]  # SQLite's number that tells kinds of files apart
    version: ClassVar[int]
    tables: ClassVar[str]  # the statements that create them
    later_tables: ClassVar[str] = ""  # the statements (IF NOT EXISTS) of those that older files of the version lack
    holds: ClassVar[str]  # in messages

    def __init__(self, path: Path) -> None:
        """Open the file, or create it.

        Raises:
            CheckpointError: it is a file of another kind, is damaged, or cannot be written.
        """
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._file = sqlite3.connect(path, timeout=_LOCK_S, isolation_level=None, check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise CheckpointError(f"{path} cannot be opened or created ({error})") from None
        try:
            self._prepare()
        except sqlite3.OperationalError as error:
            self._file.close()
            raise CheckpointError(
                f"{path} cannot be used for {self.holds} ({error}); is the folder writable?"
            ) from None
        except sqlite3.DatabaseError as error:
            self._file.close()
            raise CheckpointError(f"{path} is not a file of {self.holds}, or is damaged ({error})") from None
        except CheckpointError:
            self._file.close()
            raise
        self._version = -1
        self._turn = os.open(path.with_name(f"{path.name}.turn"), os.O_RDWR | os.O_CREAT, 0o644)

    def _prepare(self) -> None:
        self._is_empty()  # before anything is changed in a file that is not ours
        self._file.execute("PRAGMA journal_mode = WAL")
        self._file.execute("PRAGMA synchronous = FULL")  # a power cut loses nothing that was acknowledged
        self._file.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
        self._file.execute("BEGIN IMMEDIATE")
        if self._is_empty():
            for statement in self.tables.split(";"):
                self._file.execute(statement)
            self._file.execute(f"PRAGMA application_id = {self.application}")
            self._file.execute(f"PRAGMA user_version = {self.version}")
        for statement in self.later_tables.split(";"):
            self._file.execute(statement)
        self._file.execute("COMMIT")

    def _is_empty(self) -> bool:
        if self._file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0:
            return True
        found = tuple(self._file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
        if found != (self.application, self.version):
            raise CheckpointError(
                f"{self.path} is a SQLite file of another kind or version ({found[0]:#x}, {found[1]}); move it away"
            )
        return False

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A context whose changes are on disk, all of them, when it ends; or none of them after an error.

        Processes take turns: SQLite's own waiting polls, and of two busy writers one waits for seconds.
        """
        if fcntl is not None:
            fcntl.flock(self._turn, fcntl.LOCK_EX)
        try:
            self._file.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._file.execute("COMMIT")
            except BaseException:
                if self._file.in_transaction:
                    self._file.execute("ROLLBACK")
                raise
        finally:
            if fcntl is not None:
                fcntl.flock(self._turn, fcntl.LOCK_UN)

    def changed(self) -> bool:
        """Whether another connection has written since the last call; True at the first one. It takes microseconds."""
        version: int = self._file.execute("PRAGMA data_version").fetchone()[0]
        last, self._version = self._version, version
        return version != last

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        os.close(self._turn)
