"""The bundles that are served: each with its added items, its queue of requests, and a way to be loaded anew."""

from __future__ import annotations

import asyncio
import io
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from PIL import Image

from lmm4rec.core.errors import DataError, LMM4RecError, did_you_mean
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.images import ImageBytes
from lmm4rec.serving.added import AddedItem, AddedItems
from lmm4rec.serving.answers import NewItem, Recommendation
from lmm4rec.serving.api.batching import Batcher, Crowded
from lmm4rec.serving.api.metrics import Metrics
from lmm4rec.serving.api.problems import Problem
from lmm4rec.serving.api.settings import Settings
from lmm4rec.serving.bundle import Bundle

logger = logging.getLogger(__name__)
ADDED = "added_items.sqlite"  # beside the bundle, in the run folder
_GUESSED = 5_000  # ids among which a near one is looked for: more would keep others waiting
_SHORT = 64  # characters of an id that a near one is looked for
_ASKED, _TOGETHER = 1_000, 50  # users among whom an item's audience is looked for, and how many at a time
_SCORES = 10**8  # that looking for an audience may take: half a second's work
_RESTORED = 256  # added items that are encoded at a time
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
        bundle = Bundle.load(folder)
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

    def _take(self, bundle: Bundle) -> None:
        """Put a bundle into service together with the items on disk."""
        kept = list(self._added)
        new = [item for item in kept if item.id not in bundle.items]
        failed = _restore(bundle, new)
        if failed:
            logger.warning("%s: %d added items could not be taken: %s", self.name, len(failed), failed[:10])
        self.abilities = _abilities(bundle)  # which loads the encoder too, before anybody waits for it
        self.field_names = _field_names(bundle)
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
        return _matching(self.bundle.users, words, lambda user: user)

    def find_items(self, words: str, added: bool) -> Sequence[str]:
        """The items whose id or title holds some words; with `added` only those that came after the training."""
        bundle, among = self.bundle, self.added
        ids: Sequence[str] = [item for item in bundle.items if item in among] if added else bundle.items
        return _matching(ids, words, lambda item: f"{bundle.title(item)} {item}")

    def audience(self, item: str, k: int) -> tuple[int, list[tuple[str, int]]]:
        """Of how many users the first `k` were looked at, and those among them who get the item, with its rank."""
        bundle = self.bundle
        most = max(_TOGETHER, min(_ASKED, _SCORES // len(bundle.items)))
        step = -(-len(bundle.users) // most)
        asked = bundle.users[::step]
        ranks: dict[str, int] = {}
        for start in range(0, len(asked), _TOGETHER):
            for user, best in bundle.recommend(asked[start : start + _TOGETHER], k).items():
                items = [one.item for one in best]
                if item in items:
                    ranks[user] = items.index(item) + 1
        return len(asked), sorted(ranks.items(), key=lambda pair: pair[1])

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
        await self._write(lambda: self._take(Bundle.load(self.folder)))

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


def _restore(bundle: Bundle, items: Sequence[AddedItem]) -> list[str]:
    """Add what was added before; returns the ids that the bundle does not take."""
    failed: list[str] = []
    for start in range(0, len(items), _RESTORED):
        some = [_new(item) for item in items[start : start + _RESTORED]]
        try:
            bundle.add_items(some)
        except LMM4RecError:
            failed += [item.id for item in some if not _taken(bundle, item)]
    return failed


def _taken(bundle: Bundle, item: NewItem) -> bool:
    try:
        bundle.add_items([item])
    except LMM4RecError as error:
        logger.warning("the added item '%s': %s", item.id, error)
        return False
    return True


def _new(item: AddedItem) -> NewItem:
    return NewItem(item.id, item.fields, None if item.image is None else ImageBytes(item.image, f"of item {item.id}"))


def _abilities(bundle: Bundle) -> Mapping[str, bool]:
    """What the bundle can do: its search is tried, since that depends on its encoder."""
    first = bundle.items[0]
    blank = io.BytesIO()
    Image.new("RGB", (32, 32), "gray").save(blank, "PNG")
    return {
        "search_words": _works(lambda: bundle.search(text=bundle.title(first), k=1)),
        "search_picture": _works(lambda: bundle.search(image=ImageBytes(blank.getvalue()), k=1)),
        "add_items": bundle.newcomers is not None and bundle.encoder is not None,
        "explain": _works(lambda: bundle.explain(bundle.users[0], first)),
    }


def _works(ask: Callable[[], object]) -> bool:
    try:
        ask()
    except DataError:  # this question had no sense, another may
        return True
    except LMM4RecError:
        return False
    return True


def _field_names(bundle: Bundle) -> list[str]:
    """The text columns of the catalog."""
    return list(bundle.fields(bundle.items[0]))


def _matching(ids: Sequence[str], words: str, text: Callable[[str], str]) -> Sequence[str]:
    wanted = words.strip().lower()
    if not wanted:
        return ids
    found = [(low.startswith(wanted), id_) for id_ in ids if wanted in (low := text(id_).lower())]
    return [id_ for begins, id_ in found if begins] + [id_ for begins, id_ in found if not begins]


def unknown(ids: Vocabulary, id_: str) -> Problem:
    """The problem of an id that is not there; the nearest known one is offered where that is quick."""
    hint = did_you_mean(id_, ids) if len(ids) <= _GUESSED and len(id_) <= _SHORT else ""
    return Problem(HTTPStatus.NOT_FOUND, f"unknown {ids.kind} '{id_[:100]}' among {len(ids):,} {ids.kind}s.{hint}")


def _not_written(error: sqlite3.Error) -> Problem:
    logger.error("added items cannot be written", exc_info=error)
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, f"the change could not be written to disk ({error}); nothing changed"
    )


class ServedBundles:
    """All bundles in service, by name; the first one answers where a request names none."""

    def __init__(self, folders: Sequence[Path], settings: Settings, metrics: Metrics) -> None:
        self._metrics = metrics
        self._served: dict[str, Served] = {}
        for name, folder in _named(folders).items():
            self._served[name] = Served(name, folder, settings, metrics)

    def __iter__(self) -> Iterator[Served]:
        return iter(self._served.values())

    def get(self, name: str | None) -> Served:
        """The bundle of a name, the first one for None."""
        if name is None:
            return next(iter(self._served.values()))
        if name not in self._served:
            known = ", ".join(self._served)
            raise Problem(HTTPStatus.NOT_FOUND, f"no bundle is called '{name[:100]}'; there are: {known}")
        return self._served[name]

    async def reload(self) -> list[str]:
        """Load every bundle anew; returns their names.

        Raises:
            LMM4RecError: one cannot be loaded; it stays as it was, and so do those after it.
        """
        for served in self._served.values():
            try:
                await served.reload()
            except LMM4RecError:
                self._metrics.reloads.labels("failed").inc()
                raise
            self._metrics.reloads.labels("done").inc()
        return list(self._served)

    def close(self) -> None:
        """Close all."""
        for served in self._served.values():
            served.close()


def _named(folders: Sequence[Path]) -> dict[str, Path]:
    """A name for each folder: its own, made distinct by what lies above it or by a number."""
    named: dict[str, Path] = {}
    for folder in folders:
        path = folder.resolve()
        path = path.parent if path.name == "bundle" else path
        name = path.name if path.name not in named else f"{path.parent.name}-{path.name}"
        while name in named:
            name += "-2"
        named[name] = folder
    return named
