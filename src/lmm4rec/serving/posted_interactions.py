"""Posted interactions: what users did after the training, as a service is told it."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from typing import NamedTuple

from lmm4rec.data.negative_signals import NEGATIVE_KINDS


class PostedInteraction(NamedTuple):
    """One interaction; `time` is in Unix seconds, and of two with the same `id` the first one counts."""

    user: str
    item: str
    kind: str = "interaction"
    time: float = 0.0
    id: str = ""


class LatestInteractions:
    """The latest interaction of each user with each item; any number of threads may read and write."""

    def __init__(self) -> None:
        self._by_user: dict[str, dict[str, tuple[str, float]]] = {}  # user -> item -> kind and time
        self._changing = threading.Lock()

    def add(self, interactions: Iterable[PostedInteraction]) -> None:
        """Add interactions; of equal times, the one that is added later counts."""
        with self._changing:
            self._add(interactions)

    def replace(self, user: str, interactions: Iterable[PostedInteraction]) -> None:
        """Replace all interactions of a user."""
        with self._changing:
            self._by_user.pop(user, None)
            self._add(interactions)

    def _add(self, interactions: Iterable[PostedInteraction]) -> None:
        for one in interactions:
            items = self._by_user.setdefault(one.user, {})
            last = items.get(one.item)
            if last is None or last[1] <= one.time:
                items.pop(one.item, None)  # so that the latest one stands last
                items[one.item] = sys.intern(one.kind), one.time

    def of(self, user: str) -> list[PostedInteraction]:
        """The latest interaction of a user with each item."""
        with self._changing:
            latest = list(self._by_user.get(user, {}).items())
        return [PostedInteraction(user, item, kind, time) for item, (kind, time) in latest]

    def users(self) -> list[str]:
        """The users who have posted interactions, the earliest first."""
        with self._changing:
            return list(self._by_user)

    def forget(self, users: Iterable[str]) -> None:
        """Remove all interactions of some users."""
        with self._changing:
            for user in users:
                self._by_user.pop(user, None)


def is_negative(kind: str) -> bool:
    """Whether an interaction of this kind says that the user does not want the item."""
    return kind in NEGATIVE_KINDS
