"""Questions that wait together are asked together; each asker gets their own answer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from lmm4rec.serving.http.batching import Batcher, QueueFullError


class Slow:
    """Answers with question and key, but not before it may; notes what was asked together."""

    def __init__(self) -> None:
        self.may = threading.Event()
        self.calls: list[tuple[list[str], int]] = []

    def __call__(self, questions: Sequence[str], key: int) -> Mapping[str, str]:
        self.calls.append((list(questions), key))
        assert self.may.wait(5)
        if "bad" in questions:
            raise ValueError("bad question")
        return {question: f"{question}:{key}" for question in questions}


async def _started(slow: Slow) -> None:
    while not slow.calls:
        await asyncio.sleep(0.001)


def test_what_waits_is_asked_in_one_call_each_key_apart() -> None:
    async def scene() -> list[str]:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(slow, executor, most=3)
            first = asyncio.create_task(batcher.ask("first", 1))
            await _started(slow)
            rest = [asyncio.create_task(batcher.ask(f"q{i % 4}", 1)) for i in range(5)]
            other = asyncio.create_task(batcher.ask("other", 2))
            await asyncio.sleep(0.01)
            slow.may.set()
            return await asyncio.gather(first, *rest, other)

    slow = Slow()
    assert asyncio.run(scene()) == ["first:1", "q0:1", "q1:1", "q2:1", "q3:1", "q0:1", "other:2"]
    # three at most; the other key is not kept waiting by the first one's rest; a question asked twice is computed once
    assert slow.calls == [(["first"], 1), (["q0", "q1", "q2"], 1), (["other"], 2), (["q3", "q0"], 1)]


def test_too_many_are_turned_away_and_those_who_left_are_not_computed() -> None:
    async def scene() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(slow, executor, max_waiting=2)
            first = asyncio.create_task(batcher.ask("first", 1))
            await _started(slow)
            left, stays = (asyncio.create_task(batcher.ask(name, 1)) for name in ("left", "stays"))
            await asyncio.sleep(0.01)
            with pytest.raises(QueueFullError):
                await batcher.ask("third", 1)
            left.cancel()
            await asyncio.sleep(0)
            slow.may.set()
            assert await asyncio.gather(first, stays) == ["first:1", "stays:1"]
            assert await batcher.ask("later", 1) == "later:1"

    slow = Slow()
    asyncio.run(scene())
    assert [questions for questions, _ in slow.calls] == [["first"], ["stays"], ["later"]]


def test_an_error_reaches_those_of_its_batch_and_no_others() -> None:
    async def scene() -> None:
        with ThreadPoolExecutor(1) as executor:
            batcher = Batcher(slow, executor)
            slow.may.set()
            with pytest.raises(ValueError, match="bad question"):
                await batcher.ask("bad", 1)
            assert await batcher.ask("good", 1) == "good:1"

    slow = Slow()
    asyncio.run(scene())
