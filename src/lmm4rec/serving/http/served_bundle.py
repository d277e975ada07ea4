"""One bundle in service: with its added items, its queue of requests, and a way to be loaded anew."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from lmm4rec.data.images import ImageBytes
from lmm4rec.serving.added_items import AddedItems
from lmm4rec.serving.answers import NewItem, Recommendation
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.http.batching import Batcher, Crowded
from lmm4rec.serving.http.lookup import audience, matching, unknown
from lmm4rec.serving.http.metrics import Metrics
from lmm4rec.serving.http.preparing import abilities, field_names, restore
from lmm4rec.serving.http.problems import Problem
from lmm4rec.serving.http.settings import Settings

logger = logging.getLogger(__name__)
ADDED = "added_items.sqlite"  # beside the bundle, in the run folder
Answer = TypeVar("Answer")


class Wish(NamedTuple):
    """What recommendations asked for at the same time must share to be computed together."""

    k: int
    exclude_seen: bool


class Served:
    """One bundle in service."""

    def __init__(self, name: str, folder: Path, settings: Settings, metrics: Metrics) -> None:
        """Load the bundle and the items that were added to it.

        Raises:
            CheckpointError: there is no bundle, or its added items cannot be read.
        """
        self.name, self.folder, self._metrics = name, folder, metrics
        home = folder.parent if folder.name == "bundle" else folder
        self._index = settings.index
        bundle = self._loaded()
        self._added = AddedItems(home / ADDED)
        self.added: frozenset[str] = frozenset()
        self.not_restored: tuple[str, ...] = ()
        self.abilities: Mapping[str, bool] = {}
        self._take(bundle)
        self._ranking = ThreadPoolExecutor(1, f"rank-{name}")
        self._other = ThreadPoolExecutor(2, f"work-{name}")
        self._writing = ThreadPoolExecutor(1, f"write-{name}")
        self._batcher = Batcher(
            self._recommend, self._ranking, max_waiting=settings.max_waiting, on_batch=metrics.batches.observe
        )

    def _loaded(self) -> Bundle:
        return Bundle.load(self.folder, index=self._index)

    def _take(self, bundle: Bundle) -> None:
        """Put a bundle into service together with the items on disk."""
        kept = list(self._added)
        new = [item for item in kept if item.id not in bundle.items]
        failed = restore(bundle, new)
        if failed:
            logger.warning("%s: %d added items could not be taken: %s", self.name, len(failed), failed[:10])
        self.abilities = abilities(bundle)  # which loads the encoder too, before anybody waits for it
        self.field_names = field_names(bundle)
        self.bundle = bundle
        self._pictures: dict[str, str | None] = {}
        self._counts = bundle.seen.user_counts(len(bundle.users))
        self.not_restored = tuple(failed)
        self.added = frozenset(item.id for item in new) - set(failed)
        self._gauge()

    def _gauge(self) -> None:
        self._metrics.items.labels(self.name, "catalog").set(len(self.bundle.items) - len(self.added))
        self._metrics.items.labels(self.name, "added").set(len(self.added))

    def picture(self, item: str) -> str | None:
        """Where an item's thumbnail is; None where it has none, or was removed a moment ago."""
        if item not in self._pictures:
            has = item in self.bundle.items and self.bundle.thumbnail(item) is not None
            path = f"/thumbnails/{quote(item, safe='')}?bundle={quote(self.name, safe='')}"
            self._pictures[item] = path if has else None
        return self._pictures[item]

    def find_users(self, words: str) -> Sequence[str]:
        """The users whose id holds some words: those that begin with them first."""
        return matching(self.bundle.users, words, lambda user: user)

    def find_items(self, words: str, added: bool) -> Sequence[str]:
        """The items whose id or title holds some words; with `added` only those that came after the training."""
        bundle, among = self.bundle, self.added
        ids: Sequence[str] = [item for item in bundle.items if item in among] if added else bundle.items
        return matching(ids, words, lambda item: f"{bundle.title(item)} {item}")

    def audience(self, item: str, k: int) -> tuple[int, list[tuple[str, int]]]:
        """Of how many users the first `k` were looked at, and those among them who get the item, with its rank."""
        return audience(self.bundle, item, k)

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """The result of work that takes a while, done beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._other, work)

    async def recommend(self, user: str, wish: Wish) -> list[Recommendation]:
        """The best items of a user, computed together with those of whoever else waits."""
        try:
            best = await self._batcher.ask(user, wish)
        except Crowded:
            detail = "more requests wait than the service takes; try again in a moment"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": "1"}) from None
        if best is None:
            raise unknown(self.bundle.users, user)
        return best

    def _recommend(self, users: Sequence[str], wish: Wish) -> Mapping[str, list[Recommendation] | None]:
        bundle = self.bundle  # a reload may put another one in its place meanwhile
        known = [user for user in users if user in bundle.users]
        best = bundle.recommend(known, wish.k, exclude_seen=wish.exclude_seen)
        return {user: best.get(user) for user in users}

    async def add(self, id_: str, fields: Mapping[str, str], image: ImageBytes | None) -> None:
        """Add an item; when this returns it is on disk and recommended.

        Raises:
            Problem: the id is taken.
            LMM4RecError: the bundle cannot take it.
        """
        await self._write(lambda: self._add(NewItem(id_, fields, image)))

    async def remove(self, id_: str) -> None:
        """Remove an added item; the catalog's own stay.

        Raises:
            Problem: it is unknown, or belongs to the catalog.
        """
        await self._write(lambda: self._remove(id_))

    async def reload(self) -> None:
        """Load the bundle's folder anew; requests go on with the old one until the new one stands.

        Raises:
            CheckpointError: there is no whole bundle any more; the old one stays in service.
        """
        await self._write(lambda: self._take(self._loaded()))

    async def _write(self, work: Callable[[], None]) -> None:
        """One change after the other; once begun it ends, though nobody may wait for it any longer."""
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writing, work))

    def _add(self, item: NewItem) -> None:
        if item.id in self.bundle.items:
            raise Problem(HTTPStatus.CONFLICT, f"there is an item '{item.id[:100]}' already; choose another id")
        self.bundle.add_items([item])
        try:
            self._added.add(item.id, item.fields, item.image.content if isinstance(item.image, ImageBytes) else None)
        except sqlite3.Error as error:
            self.bundle.remove_items([item.id])
            raise _not_written(error) from error
        self.added |= {item.id}
        self._pictures.pop(item.id, None)
        self._gauge()

    def _remove(self, id_: str) -> None:
        if id_ not in self.bundle.items:
            raise unknown(self.bundle.items, id_)
        if id_ not in self.added:
            raise Problem(HTTPStatus.CONFLICT, f"'{id_}' belongs to the catalog: only added items can be deleted")
        try:
            self._added.remove(id_)
        except sqlite3.Error as error:
            raise _not_written(error) from error
        self.added -= {id_}
        self.bundle.remove_items([id_])
        self._gauge()

    def history_length(self, user: str) -> int:
        """How many items a user has."""
        counts = self._counts
        return int(counts[self.bundle.users.row(user)]) if user in self.bundle.users else 0

    def close(self) -> None:
        """Finish what is being done and let go of the files."""
        for executor in (self._ranking, self._other, self._writing):
            executor.shutdown(wait=True)
        self._added.close()


def _not_written(error: sqlite3.Error) -> Problem:
    logger.error("added items cannot be written", exc_info=error)
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, f"the change could not be written to disk ({error}); nothing changed"
    )
