"""Requests that wait together are answered together: one matrix product serves them all."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Answer = TypeVar("Answer")


class Crowded(Exception):  # noqa: N818 - a state of the queue, not a fault
    """More requests wait than the batcher takes."""


class Batcher(Generic[Key, Answer]):
    """Collects questions under a key while the last batch is computed, and asks them in one call.

    `compute(questions, key)` runs in the executor, one batch at a time, and returns the answer of each question. A
    lone question waits for nobody.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[str], Key], Mapping[str, Answer]],
        executor: Executor,
        *,
        most: int = 32,
        max_waiting: int = 512,
        on_batch: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._compute, self._executor = compute, executor
        self._most, self._max_waiting, self._on_batch = most, max_waiting, on_batch
        self._waiting: OrderedDict[Key, list[tuple[str, asyncio.Future[Answer]]]] = OrderedDict()
        self._count = 0
        self._task: asyncio.Task[None] | None = None

    async def ask(self, question: str, key: Key) -> Answer:
        """The answer to one question.

        Raises:
            Crowded: too many wait already.
        """
        if self._count >= self._max_waiting:
            raise Crowded
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, []).append((question, future))
        self._count += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())
        return await future

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            key, batch = self._take()
            batch = [(question, future) for question, future in batch if not future.done()]  # given up meanwhile
            if not batch:
                continue
            self._on_batch(len(batch))
            questions = list(dict.fromkeys(question for question, _ in batch))
            done = loop.run_in_executor(self._executor, self._compute, questions, key)
            await asyncio.wait([done])
            _hand_out(batch, done)

    def _take(self) -> tuple[Key, list[tuple[str, asyncio.Future[Answer]]]]:
        """The next questions of the key that has waited longest; what is left of it goes to the end of the line."""
        key, waiting = self._waiting.popitem(last=False)
        batch, rest = waiting[: self._most], waiting[self._most :]
        if rest:
            self._waiting[key] = rest
        self._count -= len(batch)
        return key, batch


def _hand_out(batch: Sequence[tuple[str, asyncio.Future[Answer]]], done: asyncio.Future[Mapping[str, Answer]]) -> None:
    error = done.exception()
    for question, future in batch:
        if future.done():
            continue
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(done.result()[question])
