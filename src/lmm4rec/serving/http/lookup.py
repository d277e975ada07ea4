"""Look-ups of ids: by a text, by the nearest known id, by an item in the users' lists."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus

from lmm4rec.core.errors import nearest_id
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.http.problems import Problem

_MOST_IDS = 5_000  # among which the nearest id is searched: with more, other requests would wait
_MOST_CHARACTERS = 64  # of an id whose nearest one is searched
_MOST_USERS, _BATCH = 1_000, 50  # users whose lists are computed for an audience, and how many at a time
_MOST_SCORES = 10**8  # computed for an audience: half a second


def matching(ids: Sequence[str], text: str, text_of: Callable[[str], str]) -> Sequence[str]:
    """The ids whose text contains the given one; those whose text begins with it come first."""
    wanted = text.strip().lower()
    if not wanted:
        return ids
    found = [(low.startswith(wanted), id_) for id_ in ids if wanted in (low := text_of(id_).lower())]
    return [id_ for begins, id_ in found if begins] + [id_ for begins, id_ in found if not begins]


def unknown_id(ids: Vocabulary, id_: str) -> Problem:
    """The problem of an unknown id; it names the nearest known one where that is found quickly."""
    hint = nearest_id(id_, list(ids)) if len(ids) <= _MOST_IDS and len(id_) <= _MOST_CHARACTERS else ""
    return Problem(HTTPStatus.NOT_FOUND, f"unknown {ids.kind} '{id_[:100]}' among {len(ids):,} {ids.kind}s.{hint}")


def audience(bundle: Bundle, item: str, k: int) -> tuple[int, list[tuple[str, int]]]:
    """The number of users whose first `k` items were computed, and those among them who get the item, with its rank."""
    most = max(_BATCH, min(_MOST_USERS, _MOST_SCORES // len(bundle.items)))
    users = bundle.users[:: max(1, -(-len(bundle.users) // most))]
    ranks: dict[str, int] = {}
    for start in range(0, len(users), _BATCH):
        for user, best in bundle.recommend(users[start : start + _BATCH], k).items():
            items = [one.item for one in best]
            if item in items:
                ranks[user] = items.index(item) + 1
    return len(users), sorted(ranks.items(), key=lambda pair: pair[1])
