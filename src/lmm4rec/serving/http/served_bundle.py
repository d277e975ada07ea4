"""A bundle in service: with its added items, its queue of requests, and its reload."""

from __future__ import annotations

import asyncio
import io
import logging
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple, TypeVar
from urllib.parse import quote

from filelock import FileLock
from PIL import Image

from lmm4rec.core.errors import DataError, LMM4RecError
from lmm4rec.core.files import storage_errors
from lmm4rec.data.images import ImageBytes
from lmm4rec.serving.added_items import FILE as ADDED_ITEMS
from lmm4rec.serving.answers import NewItem, Recommendation
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.bundle_files import FACTS, bundle_folder
from lmm4rec.serving.feedback import FILE as INTERACTIONS
from lmm4rec.serving.http.batching import Batcher, QueueFullError
from lmm4rec.serving.http.interaction_schemas import Erased
from lmm4rec.serving.http.lookup import audience, matching, unknown_id
from lmm4rec.serving.http.metrics import Metrics
from lmm4rec.serving.http.problems import Problem, not_written
from lmm4rec.serving.http.served_feedback import ServedFeedback
from lmm4rec.serving.http.served_items import ServedItems
from lmm4rec.serving.http.served_rules import ServedRules
from lmm4rec.serving.http.settings import Settings

logger = logging.getLogger(__name__)
_LOCK = "bundle.lock"  # beside the bundle: of the process that writes it


def _searches(bundle: Bundle) -> Mapping[str, bool]:
    """Whether the bundle can search by text and by image; this is tried, since it depends on the encoder, and opens it.

    That takes longer than all else at the start, so it is done while requests for recommendations are answered.
    """
    blank = io.BytesIO()
    Image.new("RGB", (32, 32), "gray").save(blank, "PNG")
    return {
        "search_words": _works(lambda: bundle.search(text=bundle.title(bundle.items[0]), k=1)),
        "search_picture": _works(lambda: bundle.search(image=ImageBytes(blank.getvalue()), k=1)),
    }


def _works(request: Callable[[], object]) -> bool:
    try:
        request()
    except DataError:  # of this request; another one may have an answer
        return True
    except LMM4RecError:
        return False
    except Exception:  # of an encoder: recommendations do not need it
        logger.exception("a request to the bundle fails")
        return False
    return True


def bundle_version(folder: Path) -> tuple[int, int] | None:
    """What differs once the bundle of a folder is replaced; None while there is none."""
    try:
        facts = (bundle_folder(folder) / FACTS).stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


Answer = TypeVar("Answer")


class RecommendOptions(NamedTuple):
    """Options of a request for recommendations; requests with the same options are computed together."""

    k: int
    exclude_seen: bool


class ServedBundle:
    """A bundle in service."""

    def __init__(self, name: str, folder: Path, settings: Settings, metrics: Metrics) -> None:
        """Load the bundle and the items that were added to it.

        Raises:
            CheckpointError: there is no bundle, or its added items cannot be read.
        """
        self.name, self.folder, self._metrics = name, folder, metrics
        home = self.home = folder.parent if folder.name == "bundle" else folder
        self._index, self.rules = settings.index, ServedRules(name, settings.rules)
        self._root_path = settings.root_path
        bundle = self._load()  # before files are created beside it
        self.feedback = ServedFeedback(name, home / INTERACTIONS, metrics)
        self.items = ServedItems(name, home / ADDED_ITEMS)
        self._ranking = ThreadPoolExecutor(1, f"rank-{name}")
        self._other = ThreadPoolExecutor(2, f"work-{name}")
        self._writing = ThreadPoolExecutor(1, f"write-{name}")
        self._put_in_service(bundle)
        self._searches = self._writing.submit(_searches, bundle)
        self._batcher = Batcher(
            self._recommend, self._ranking, max_waiting=settings.max_waiting, on_batch=metrics.batches.observe
        )

    def update(self) -> None:
        """Follow all interactions that were acknowledged up to now, by whichever process; each request begins so."""
        self.feedback.update(self.bundle)

    def _load(self) -> Bundle:
        self._version = bundle_version(self.folder)
        return Bundle.load(self.folder, index=self._index)

    def _follow_interactions(self, bundle: Bundle) -> None:
        """Let a bundle follow what was posted, without erased users, on disk too."""
        if erased := self.feedback.erased_among(bundle):
            self._erase_on_disk(erased)
            bundle.forget_users(erased)
        bundle.use_interactions(self.feedback.latest)

    def _erase_on_disk(self, users: Sequence[str]) -> bool:
        """Write the bundle's folder without some users; whether it had one of them."""
        with storage_errors(self.home), FileLock(self.home / _LOCK):  # two writers would remove each other's files
            folder, is_in_service = bundle_folder(self.folder).resolve(), not self.is_replaced
            stored = Bundle.load(folder)  # a night may put another bundle in its place meanwhile
            if not any(user in stored.users for user in users):
                return False
            stored.forget_users(users)
            stored.save_pretrained(folder)
            if is_in_service:
                self._version = bundle_version(folder)
        return True

    @property
    def is_replaced(self) -> bool:
        """Whether there is another bundle in the folder than the one in service."""
        version = bundle_version(self.folder)
        return version is not None and version != self._version

    def _put_in_service(self, bundle: Bundle) -> None:
        """Replace the bundle in service by one that has the added items on disk, too."""
        rules = self.rules.read_for(bundle)
        self._follow_interactions(bundle)
        self.items.put_into(bundle, self.folder)
        self._explains = len(bundle.users) > 0 and _works(lambda: bundle.explain(bundle.users[0], bundle.items[0]))
        self.field_names = list(bundle.fields(bundle.items[0]))
        self.rules.use(rules)
        self.bundle = bundle
        self._image_paths: dict[str, str | None] = {}
        self._update_metrics()

    @property
    def is_loading(self) -> bool:
        """Whether the encoder is being loaded: until then a search waits for it, and is not among the capabilities."""
        return not self._searches.done()

    @property
    def capabilities(self) -> dict[str, bool]:
        """Whether the bundle can search, take new items, explain."""
        searches = (
            dict.fromkeys(("search_words", "search_picture"), False) if self.is_loading else self._searches.result()
        )
        takes_items = self.bundle.content_to_vectors is not None and self.bundle.encoder is not None
        return {**searches, "add_items": takes_items, "explain": self._explains}

    def _update_metrics(self) -> None:
        self._metrics.items.labels(self.name, "catalog").set(len(self.bundle.items) - len(self.items.added))
        self._metrics.items.labels(self.name, "added").set(len(self.items.added))

    def image_path(self, item: str) -> str | None:
        """The path of an item's thumbnail; None where it has none, or was removed a moment ago."""
        if item not in self._image_paths:
            has = item in self.bundle.items and self.bundle.thumbnail(item) is not None
            path = f"{self._root_path}/thumbnails/{quote(item, safe='')}?bundle={quote(self.name, safe='')}"
            self._image_paths[item] = path if has else None
        return self._image_paths[item]

    def find_users(self, text: str) -> Sequence[str]:
        """The users whose id contains a text; those whose id begins with it come first."""
        return matching(self.bundle.all_users(), text, lambda user: user)

    def find_items(self, text: str, added: bool) -> Sequence[str]:
        """The items whose id or title contains a text; with `added` only those added after the training."""
        bundle, added_ids = self.bundle, self.items.added
        ids: Sequence[str] = [item for item in bundle.items if item in added_ids] if added else bundle.items
        return matching(ids, text, lambda item: f"{bundle.title(item)} {item}")

    def audience(self, item: str, k: int) -> tuple[int, list[tuple[str, int]]]:
        """The number of users whose first `k` items were computed, and those who get the item, with its rank."""
        return audience(self.bundle, item, k)

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """The result of slow work, done in a thread beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._other, work)

    async def recommend(self, user: str, options: RecommendOptions) -> list[Recommendation]:
        """The best items of a user, computed in one batch with the other requests that wait."""
        try:
            best = await self._batcher.ask(user, options)
        except QueueFullError:
            detail = "too many requests are waiting; try again in a moment"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": "1"}) from None
        if best is None:
            raise unknown_id(self.bundle.users, user)
        return best

    def _recommend(self, users: Sequence[str], options: RecommendOptions) -> Mapping[str, list[Recommendation] | None]:
        bundle = self.bundle  # a reload may replace it meanwhile
        known = [user for user in users if bundle.has_user(user)]
        try:
            best = bundle.recommend(known, options.k, exclude_seen=options.exclude_seen)
        except DataError:  # one of them was erased meanwhile, which is not the fault of the others
            if all(map(bundle.has_user, known)):
                raise
            return self._recommend(users, options)
        return {user: best.get(user) for user in users}

    async def add(self, id_: str, fields: Mapping[str, str], image: ImageBytes | None) -> None:
        """Add an item; when this returns it is on disk and recommended.

        Raises:
            Problem: the id is taken.
            LMM4RecError: the bundle refuses it.
        """
        await self._write(
            lambda: self._change_items(lambda bundle: self.items.add(bundle, NewItem(id_, fields, image)))
        )

    async def remove(self, id_: str) -> None:
        """Remove an added item, also one that the bundle was trained on; others of the catalog cannot be removed.

        Raises:
            Problem: it is unknown, or belongs to the catalog.
        """
        await self._write(lambda: self._change_items(lambda bundle: self.items.remove(bundle, id_)))

    async def reload(self) -> None:
        """Load the bundle's folder again; until that is done, the old bundle answers requests.

        Raises:
            CheckpointError: there is no whole bundle; the old one stays in service.
        """
        await self._write(self._load_again)

    def _load_again(self) -> None:
        bundle = self._load()
        searches: Future[Mapping[str, bool]] = Future()
        searches.set_result(_searches(bundle))  # before the bundle is in service, so that no search waits
        self._put_in_service(bundle)
        self._searches = searches

    async def _write(self, work: Callable[[], None]) -> None:
        """Make one change after the other; a change that has begun is finished even if its request is canceled."""
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._writing, work))

    async def follow_items(self) -> None:
        """Add and remove the items that other processes have added and removed since the last call."""
        if self.items.changed():
            await self._write(lambda: self._change_items(self.items.follow))

    def _change_items(self, change: Callable[[Bundle], None]) -> None:
        change(self.bundle)
        self._image_paths = {}
        self._update_metrics()

    async def erase(self, user: str) -> Erased:
        """Erase a user: their interactions, and their row and history in the bundle, in memory and on disk.

        Raises:
            Problem: the files cannot be written.
        """
        erased: list[Erased] = []
        await self._write(lambda: erased.append(self._erase(user)))
        return erased[0]

    def _erase(self, user: str) -> Erased:
        try:
            count = self.feedback.erase(user)
        except sqlite3.Error as error:
            raise not_written(error) from error
        self.update()
        # by what the disk holds: a request that is repeated after an error has to find what is left
        return Erased(bundle=self.name, interactions=count, was_trained=self._erase_on_disk([user]))

    def close(self) -> None:
        """Finish the work that has begun and close the files."""
        for executor in (self._ranking, self._other, self._writing):
            executor.shutdown(wait=True)
        self.feedback.close()
        self.items.close()
