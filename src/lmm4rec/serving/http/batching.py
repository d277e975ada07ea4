"""Batching of requests: those that wait at the same time are answered by one matrix product."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Options = TypeVar("Options", bound=Hashable)
Answer = TypeVar("Answer")


class QueueFullError(Exception):
    """The batcher's queue has no room for another request."""


class Batcher(Generic[Options, Answer]):
    """A queue that collects the users with the same options while the last batch is computed, for one call.

    `compute(users, options)` runs in the executor, one batch at a time, and returns the answer of each user. A single
    request is computed at once.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[str], Options], Mapping[str, Answer]],
        executor: Executor,
        *,
        most: int = 32,
        max_waiting: int = 512,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._compute, self._executor = compute, executor
        self._most, self._max_waiting, self._on_batch = most, max_waiting, on_batch
        self._waiting: OrderedDict[Options, list[tuple[str, asyncio.Future[Answer]]]] = OrderedDict()
        self._count = 0
        self._task: asyncio.Task[None] | None = None

    async def ask(self, user: str, options: Options) -> Answer:
        """The answer for one user.

        Raises:
            QueueFullError: too many requests wait already.
        """
        if self._count >= self._max_waiting:
            raise QueueFullError
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(options, []).append((user, future))
        self._count += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            options, batch = self._next_batch()
            batch = [(user, future) for user, future in batch if not future.done()]  # the others were canceled
            if not batch:
                continue
            self._on_batch(len(batch))
            users = list(dict.fromkeys(user for user, _ in batch))
            done = loop.run_in_executor(self._executor, self._compute, users, options)
            await asyncio.wait([done])
            _set_results(batch, done)

    def _next_batch(self) -> tuple[Options, list[tuple[str, asyncio.Future[Answer]]]]:
        """The next users of the options that have waited longest; those beyond the batch go to the end of the queue."""
        options, waiting = self._waiting.popitem(last=False)
        batch, rest = waiting[: self._most], waiting[self._most :]
        if rest:
            self._waiting[options] = rest
        self._count -= len(batch)
        return options, batch


def _set_results(
    batch: Sequence[tuple[str, asyncio.Future[Answer]]], done: asyncio.Future[Mapping[str, Answer]]
) -> None:
    error = done.exception()
    for user, future in batch:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(done.result()[user])
