"""The posted interactions of a bundle in service: written in groups, and read by every process that serves it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path

from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.feedback import FeedbackStore
from lmm4rec.serving.http.metrics import Metrics
from lmm4rec.serving.http.problems import Problem, not_written
from lmm4rec.serving.posted_interactions import LatestInteractions, PostedInteraction

_MOST_WAITING = 20_000  # interactions in the queue; more are refused


class ServedFeedback:
    """The file of posted interactions, and what of it counts in answers."""

    def __init__(self, name: str, path: Path, metrics: Metrics) -> None:
        """Open the file, or create it.

        Raises:
            CheckpointError: it is a file of another kind, is damaged, or cannot be written.
        """
        self.latest = LatestInteractions()
        self._name, self._metrics = name, metrics
        self._reader, self._writer = FeedbackStore(path), FeedbackStore(path)
        self._reading, self._place, self._erasure, self._retraction = threading.Lock(), 0, 0, 0
        self._writing = ThreadPoolExecutor(1, f"interactions-{name}")
        self._waiting: list[tuple[Sequence[PostedInteraction], asyncio.Future[list[bool]]]] = []
        self._count = 0
        self._task: asyncio.Task[None] | None = None

    def erased_among(self, bundle: Bundle) -> list[str]:
        """The users of a bundle who were erased; one who has come back since then, by the bundle's log, is none."""
        erased = self._reader.erased(bundle.users)
        return [id_ for id_, time in erased.items() if not all((one.when or 0) > time for one in bundle.history(id_))]

    def update(self, bundle: Bundle) -> None:
        """Let a bundle, which has `latest`, follow all that was acknowledged up to now, by whichever process."""
        with self._reading:
            if not self._reader.changed():
                return
            with self._reader.snapshot():
                erasures = self._reader.erasures(self._erasure)
                # `latest` has users whom the bundle does not count: of unknown items or dislikes alone
                known = {*bundle.users, *self.latest.users()} if erasures else set()
                gone = self._reader.erased(known, after=self._erasure)
                posted = list(self._reader.since(self._place))
                retractions = self._reader.retractions(self._retraction)
                changed = {user: self._reader.of_user(user) for user in {user for _, user in retractions}}
            if erasures:
                bundle.forget_users(gone)
                self._erasure = erasures[-1].place
            if posted:
                self.latest.add(one for _, one in posted)
                self._place = posted[-1][0]
            for user, left in changed.items():
                self.latest.replace(user, left)
            self._retraction = retractions[-1][0] if retractions else self._retraction

    async def post(self, interactions: Sequence[PostedInteraction]) -> list[bool]:
        """Store interactions: True for each new one. They are on disk when this returns, or none of them is.

        Those of all requests that wait while the last group is written are one group: one wait for the disk.

        Raises:
            Problem: too many are waiting, or the file cannot be written.
        """
        if self._count + len(interactions) > _MOST_WAITING:
            detail = "too many interactions are waiting to be written; send these again in a moment"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": "1"})
        future: asyncio.Future[list[bool]] = asyncio.get_running_loop().create_future()
        self._waiting.append((interactions, future))
        self._count += len(interactions)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        try:
            new = await future
        except sqlite3.Error as error:
            raise not_written(error) from error
        for one, is_new in zip(interactions, new, strict=True):
            self._metrics.interactions.labels(self._name, one.kind, "new" if is_new else "repeated").inc()
        return new

    async def _work(self) -> None:
        while self._waiting:
            group, self._waiting, self._count = self._waiting, [], 0
            posted = [one for interactions, _ in group for one in interactions]
            done = asyncio.get_running_loop().run_in_executor(self._writing, self._writer.add, posted)
            await asyncio.wait([done])
            error, new = done.exception(), iter(done.result() if done.exception() is None else ())
            for interactions, future in group:
                if future.done():  # its request was canceled
                    continue
                if error is not None:
                    future.set_exception(error)
                else:
                    future.set_result([next(new) for _ in interactions])

    async def retract(self, id_: str) -> bool:
        """Delete an interaction by its id; it is gone from the disk when this returns. False where there was none.

        Raises:
            Problem: the file cannot be written.
        """
        try:
            done = await asyncio.get_running_loop().run_in_executor(self._writing, self._writer.retract, id_)
        except sqlite3.Error as error:
            raise not_written(error) from error
        if done == "now":
            self._metrics.retractions.labels(self._name).inc()
        return done != "unknown"

    def erase(self, user: str) -> int:
        """Delete a user's interactions and record the erasure; returns their number.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        return self._writing.submit(self._writer.erase, user).result()

    def stored(self, after: int, most: int) -> list[tuple[int, PostedInteraction]]:
        """Up to `most` interactions after a place, with their places."""
        with self._reading:
            return list(self._reader.since(after, most=most))

    def close(self) -> None:
        """Write what waits and close the file."""
        self._writing.shutdown(wait=True)
        self._writer.close()
        self._reader.close()
