"""The posted interactions of a service: in a SQLite file, each on disk before its request is answered.

Any number of processes may have the file open. A reader asks `changed`, which costs microseconds, and reads `since` the
last place that it knows: an answer that follows an acknowledged post has it, in whichever process.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

import polars as pl

from lmm4rec.core.sqlite_file import SqliteFile
from lmm4rec.serving.posted_interactions import PostedInteraction

Retracted: TypeAlias = Literal["now", "before", "unknown"]
FILE = "interactions.sqlite"  # beside the bundle, in the run folder or the live folder
_TABLES = """
CREATE TABLE interactions (
    place INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which they were acknowledged
    id TEXT NOT NULL UNIQUE,                  -- a repeated post has the same one
    user TEXT NOT NULL,
    item TEXT NOT NULL,
    kind TEXT NOT NULL,
    time REAL NOT NULL                        -- unix seconds
) STRICT;
CREATE INDEX interactions_of_user ON interactions (user);
CREATE TABLE erased (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    user BLOB NOT NULL,                       -- a keyed digest: the id itself is erased
    time REAL NOT NULL
) STRICT;
CREATE TABLE secret (key BLOB NOT NULL) STRICT;
INSERT INTO secret (key) VALUES (randomblob(32))
"""
_LATER_TABLES = """
CREATE TABLE IF NOT EXISTS retracted (
    place INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,                  -- of the interaction: posted once more, it does not count either
    user TEXT NOT NULL
) STRICT
"""


class Erasure(NamedTuple):
    """That a user was erased: the place of the record, the digest of the id, and when."""

    place: int
    user: bytes
    time: float


class FeedbackStore(SqliteFile):
    """A file of posted interactions; a thread needs one of its own, or a lock."""

    application, version, tables, holds = 0x6C6D3466, 1, _TABLES, "interactions"  # "lm4f"
    later_tables = _LATER_TABLES

    def add(self, interactions: Iterable[PostedInteraction]) -> list[bool]:
        """Store interactions; they are on disk when this returns. True for each new one, False for a repeated one.

        One that was retracted counts as repeated.
        """
        sql = (
            "INSERT INTO interactions (id, user, item, kind, time) SELECT ?1, ?2, ?3, ?4, ?5 "
            "WHERE NOT EXISTS (SELECT 1 FROM retracted WHERE id = ?1) ON CONFLICT (id) DO NOTHING"
        )
        with self.transaction():
            new = [
                self._file.execute(sql, (one.id, one.user, one.item, one.kind, one.time)).rowcount > 0
                for one in interactions
            ]
        return new

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """A context in which all that is read is of one moment."""
        self._file.execute("BEGIN")
        try:
            yield
        finally:
            self._file.execute("COMMIT")

    def since(self, place: int, *, most: int = -1) -> Iterator[tuple[int, PostedInteraction]]:
        """The interactions after a place, with their places, in the order in which they were acknowledged."""
        sql = "SELECT place, user, item, kind, time, id FROM interactions WHERE place > ? ORDER BY place LIMIT ?"
        for at, *fields in self._file.execute(sql, (place, most)):
            yield at, PostedInteraction(*fields)

    def of_user(self, user: str) -> list[PostedInteraction]:
        """The interactions of a user, in the order in which they were acknowledged."""
        sql = "SELECT user, item, kind, time, id FROM interactions WHERE user = ? ORDER BY place"
        return [PostedInteraction(*fields) for fields in self._file.execute(sql, (user,))]

    def retract(self, id_: str) -> Retracted:
        """Delete one interaction, for good: on disk when this returns, and posted once more it does not count."""
        with self.transaction():
            sql = "INSERT INTO retracted (id, user) SELECT id, user FROM interactions WHERE id = ?"
            if self._file.execute(sql, (id_,)).rowcount:
                self._file.execute("DELETE FROM interactions WHERE id = ?", (id_,))
                return "now"
            before = self._file.execute("SELECT 1 FROM retracted WHERE id = ?", (id_,)).fetchone()
        return "before" if before else "unknown"

    def retractions(self, place: int = 0) -> list[tuple[int, str]]:
        """The places of the retractions after a place, and the user of each."""
        return list(self._file.execute("SELECT place, user FROM retracted WHERE place > ? ORDER BY place", (place,)))

    def erase(self, user: str) -> int:
        """Delete all interactions of a user, and record the erasure without the id; returns their number."""
        with self.transaction():
            count = self._file.execute("DELETE FROM interactions WHERE user = ?", (user,)).rowcount
            self._file.execute("DELETE FROM retracted WHERE user = ?", (user,))
            self._file.execute("INSERT INTO erased (user, time) VALUES (?, ?)", (self._digest(user), time.time()))
        self._file.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # the log still has what was deleted
        return count

    def erasures(self, place: int = 0) -> list[Erasure]:
        """The erasures after a place."""
        rows = self._file.execute("SELECT place, user, time FROM erased WHERE place > ? ORDER BY place", (place,))
        return [Erasure(*row) for row in rows]

    def erased(self, users: Iterable[str], *, after: int = 0) -> dict[str, float]:
        """Those of the users who were erased (after a place), with the time of the last erasure."""
        times = {one.user: one.time for one in self.erasures(after)}
        return {user: times[digest] for user in users if (digest := self._digest(user)) in times} if times else {}

    @cached_property
    def _key(self) -> bytes:
        key: bytes = self._file.execute("SELECT key FROM secret").fetchone()[0]
        return key

    def _digest(self, user: str) -> bytes:
        """What stands for an erased user in this file."""
        return hmac.digest(self._key, user.encode(), hashlib.sha256)

    def __len__(self) -> int:
        count: int = self._file.execute("SELECT count(*) FROM interactions").fetchone()[0]
        return count


def read_feedback(path: Path) -> pl.DataFrame:
    """The posted interactions as a table: user, item, timestamp (Unix seconds), kind; empty where there is no file.

    Raises:
        CheckpointError: it is a file of another kind, or damaged.
    """
    columns = ("user", "item", "timestamp", "kind")
    schema = dict(zip(columns, (pl.String, pl.String, pl.Int64, pl.String), strict=True))
    if not path.is_file():
        return pl.DataFrame(schema=schema)
    store = FeedbackStore(path)
    try:
        rows = [(one.user, one.item, int(one.time), one.kind) for _, one in store.since(0)]
    finally:
        store.close()
    return pl.DataFrame(rows, schema=schema, orient="row")
