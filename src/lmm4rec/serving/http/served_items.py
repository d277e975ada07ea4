"""The items that were added to a bundle in service: in memory, and on disk, where other processes find them."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from pathlib import Path

from lmm4rec.data.images import ImageBytes
from lmm4rec.serving.added_items import AddedItem, AddedItems, learned_items, restore
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.bundle_files import bundle_folder
from lmm4rec.serving.http.lookup import unknown_id
from lmm4rec.serving.http.problems import Problem, not_written
from lmm4rec.serving.thumbnails import thumbnail

logger = logging.getLogger(__name__)


class ServedItems:
    """The file of added items, and which of them a bundle has; one thread at a time may change them."""

    def __init__(self, name: str, path: Path) -> None:
        """Open the file, or create it.

        Raises:
            CheckpointError: it is a file of another kind, is damaged, or cannot be written.
        """
        self._name, self._file = name, AddedItems(path)
        # an id that was deleted and added again is another item: so each with the time at which it was added
        self.added: Mapping[str, float] = {}  # of the bundle in service, those that it was not trained on
        self.not_restored: Mapping[str, float] = {}  # those that the bundle refused
        self._learned: dict[str, float] = {}  # those that it was trained on

    def put_into(self, bundle: Bundle, folder: Path) -> None:
        """Add the items on disk to a bundle that was loaded from a folder, and take out those that were removed."""
        learned = learned_items(bundle_folder(folder).resolve().parent)
        self._follow(bundle, {}, {id_: at for id_, at in learned.items() if id_ in bundle.items}, {})
        if refused := list(self.not_restored):
            logger.warning("%s: %d added items could not be restored: %s", self._name, len(refused), refused[:10])

    def changed(self) -> bool:
        """Whether another process has added or removed items since the last call."""
        return self._file.changed()

    def follow(self, bundle: Bundle) -> None:
        """Add and remove the items that were added and removed on disk."""
        self._follow(bundle, self.added, self._learned, self.not_restored)

    def _follow(
        self,
        bundle: Bundle,
        added: Mapping[str, float],
        learned: Mapping[str, float],
        not_restored: Mapping[str, float],
    ) -> None:
        times, removed = self._file.times(), self._file.removed()  # without the images, which are large together
        gone = {id_ for id_, at in added.items() if times.get(id_) != at}
        gone |= {id_ for id_, at in learned.items() if (id_, at) in removed}
        bundle.remove_items(gone)
        not_restored = {id_: at for id_, at in not_restored.items() if times.get(id_) == at}
        new = [id_ for id_ in times if id_ not in bundle.items and id_ not in not_restored]
        refused = restore(bundle, list(self._file.chosen(new)))
        learned = {id_: at for id_, at in learned.items() if id_ not in gone}
        without = [id_ for id_ in learned if id_ in times and bundle.thumbnail(id_) is None]
        _complete_thumbnails(bundle, self._file.chosen(without))
        self._learned = learned
        self.added = {id_: times[id_] for id_ in (*added, *new) if id_ in bundle.items}
        self.not_restored = not_restored | {id_: times[id_] for id_ in refused}

    def add(self, bundle: Bundle, item: NewItem) -> None:
        """Add an item to a bundle; when this returns, it is on disk.

        Raises:
            Problem: the id is taken, or the file cannot be written.
            LMM4RecError: the bundle refuses it.
        """
        taken = Problem(HTTPStatus.CONFLICT, f"item '{item.id[:100]}' is there already; choose another id")
        if item.id in bundle.items:
            raise taken
        bundle.add_items([item])
        try:
            image = item.image.content if isinstance(item.image, ImageBytes) else None
            stored = self._file.add(item.id, item.fields, image)
        except sqlite3.IntegrityError:  # another process was faster
            bundle.remove_items([item.id])
            raise taken from None
        except sqlite3.Error as error:
            bundle.remove_items([item.id])
            raise not_written(error) from error
        self.added = {**self.added, item.id: stored.added_at}

    def remove(self, bundle: Bundle, id_: str) -> None:
        """Remove an added item, also one that the bundle was trained on.

        Raises:
            Problem: it is unknown, belongs to the catalog, or the file cannot be written.
        """
        if id_ not in bundle.items:
            raise unknown_id(bundle.items, id_)
        if id_ not in self.added and id_ not in self._learned:
            raise Problem(HTTPStatus.CONFLICT, f"'{id_}' belongs to the catalog: only added items can be deleted")
        try:
            self._file.remove(id_)
        except sqlite3.Error as error:
            raise not_written(error) from error
        bundle.remove_items([id_])
        self.added = {one: at for one, at in self.added.items() if one != id_}
        self._learned.pop(id_, None)

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _complete_thumbnails(bundle: Bundle, learned: Iterable[AddedItem]) -> None:
    """Give added items that a bundle was trained on their images: it has those of its most popular items alone."""
    new = {bundle.catalog.row(one.id): thumbnail(one.item_image) for one in learned if one.item_image is not None}
    if new:
        bundle.set_thumbnails({**bundle.catalog.thumbnails, **new})
