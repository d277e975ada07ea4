"""The items added to a bundle after its training: in a SQLite file, each on disk before its request is answered.

The night job trains on those that users have interacted with. `learned_items` says which of a run's catalog these are,
so that they can be deleted from a bundle that has learned them, too.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from lmm4rec.core.errors import LMM4RecError
from lmm4rec.core.files import read_json, write_json
from lmm4rec.core.sqlite_file import SqliteFile
from lmm4rec.data.images import ImageBytes
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle import Bundle

logger = logging.getLogger(__name__)
FILE = "added_items.sqlite"  # beside the bundle, in the run folder or the live folder
_LEARNED = "added_items.json"  # in a run folder
_RESTORED = 256  # items that are encoded at a time
_TABLE = """
CREATE TABLE items (
    place INTEGER PRIMARY KEY AUTOINCREMENT,  -- the order in which they were added
    id TEXT NOT NULL UNIQUE,
    fields TEXT NOT NULL,                     -- JSON object of texts
    image BLOB,
    added_at REAL NOT NULL                    -- unix seconds
) STRICT
"""
_SELECT = "SELECT id, fields, image, added_at FROM items"
_LATER_TABLES = """
CREATE TABLE IF NOT EXISTS removed (id TEXT NOT NULL, added_at REAL NOT NULL) STRICT
"""


class AddedItem(NamedTuple):
    """One item of the file."""

    id: str
    fields: Mapping[str, str]
    image: bytes | None
    added_at: float

    @property
    def item_image(self) -> ImageBytes | None:
        """The image; None where the item has none."""
        return None if self.image is None else ImageBytes(self.image, f"of item {self.id}")


class AddedItems(SqliteFile):
    """A file of added items; a thread needs one of its own, or a lock."""

    application, version, tables, holds = 0x6C6D3472, 1, _TABLE, "added items"  # "lm4r"
    later_tables = _LATER_TABLES

    def add(self, id_: str, fields: Mapping[str, str], image: bytes | None) -> AddedItem:
        """Store an item; it is on disk when this returns."""
        item = AddedItem(id_, dict(fields), image, time.time())
        with self.transaction():
            self._file.execute(
                "INSERT INTO items (id, fields, image, added_at) VALUES (?, ?, ?, ?)",
                (id_, json.dumps(item.fields, ensure_ascii=False), image, item.added_at),
            )
        return item

    def remove(self, id_: str) -> bool:
        """Delete an item; True if it was there. That it was removed is kept, for bundles that have learned it."""
        with self.transaction():
            self._file.execute("INSERT INTO removed (id, added_at) SELECT id, added_at FROM items WHERE id = ?", (id_,))
            return self._file.execute("DELETE FROM items WHERE id = ?", (id_,)).rowcount > 0

    def removed(self) -> set[tuple[str, float]]:
        """The ids of the removed items, and when each was added."""
        return set(self._file.execute("SELECT id, added_at FROM removed"))

    def times(self) -> dict[str, float]:
        """When each item was added, in the order in which they were added."""
        return dict(self._file.execute("SELECT id, added_at FROM items ORDER BY place"))

    def chosen(self, ids: Iterable[str]) -> Iterator[AddedItem]:
        """The items of these ids, as far as they are there."""
        for id_ in ids:
            yield from map(_item, self._file.execute(f"{_SELECT} WHERE id = ?", (id_,)).fetchall())

    def __iter__(self) -> Iterator[AddedItem]:
        return map(_item, self._file.execute(f"{_SELECT} ORDER BY place"))

    def __len__(self) -> int:
        return cast(int, self._file.execute("SELECT count(*) FROM items").fetchone()[0])


def _item(row: tuple[str, str, bytes | None, float]) -> AddedItem:
    id_, fields, image, added_at = row
    return AddedItem(id_, json.loads(fields), image, added_at)


def restore(bundle: Bundle, items: Sequence[AddedItem]) -> list[str]:
    """The ids that the bundle does not accept, after adding all others to it."""
    refused: list[str] = []
    for start in range(0, len(items), _RESTORED):
        batch = [_new_item(item) for item in items[start : start + _RESTORED]]
        try:
            bundle.add_items(batch)
        except LMM4RecError:
            refused += [item.id for item in batch if not _accepted(bundle, item)]
    return refused


def _accepted(bundle: Bundle, item: NewItem) -> bool:
    try:
        bundle.add_items([item])
    except LMM4RecError as error:
        logger.warning("the added item '%s': %s", item.id, error)
        return False
    return True


def _new_item(item: AddedItem) -> NewItem:
    return NewItem(item.id, item.fields, item.item_image)


def write_learned_items(run: Path, items: Sequence[AddedItem]) -> None:
    """Write into a run folder which items of its catalog were added ones."""
    write_json(run / _LEARNED, {item.id: item.added_at for item in items})


def learned_items(run: Path) -> dict[str, float]:
    """The added items that a run was trained on, and when each was added; empty where none is recorded."""
    path = run / _LEARNED
    return {str(id_): float(at) for id_, at in read_json(path).items()} if path.is_file() else {}
