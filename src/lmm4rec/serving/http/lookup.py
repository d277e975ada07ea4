"""Finding ids: by words, by the nearest known one, by who gets an item."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus

from lmm4rec.core.errors import did_you_mean
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.http.problems import Problem

_GUESSED = 5_000  # ids among which a near one is looked for: more would keep others waiting
_SHORT = 64  # characters of an id that a near one is looked for
_ASKED, _TOGETHER = 1_000, 50  # users among whom an item's audience is looked for, and how many at a time
_SCORES = 10**8  # that looking for an audience may take: half a second's work


def matching(ids: Sequence[str], words: str, text: Callable[[str], str]) -> Sequence[str]:
    """The ids whose text holds some words: those whose text begins with them first."""
    wanted = words.strip().lower()
    if not wanted:
        return ids
    found = [(low.startswith(wanted), id_) for id_ in ids if wanted in (low := text(id_).lower())]
    return [id_ for begins, id_ in found if begins] + [id_ for begins, id_ in found if not begins]


def unknown(ids: Vocabulary, id_: str) -> Problem:
    """The problem of an id that is not there; the nearest known one is offered where that is quick."""
    hint = did_you_mean(id_, ids) if len(ids) <= _GUESSED and len(id_) <= _SHORT else ""
    return Problem(HTTPStatus.NOT_FOUND, f"unknown {ids.kind} '{id_[:100]}' among {len(ids):,} {ids.kind}s.{hint}")


def audience(bundle: Bundle, item: str, k: int) -> tuple[int, list[tuple[str, int]]]:
    """Of how many users the first `k` were looked at, and those among them who get the item, with its rank."""
    most = max(_TOGETHER, min(_ASKED, _SCORES // len(bundle.items)))
    asked = bundle.users[:: -(-len(bundle.users) // most)]
    ranks: dict[str, int] = {}
    for start in range(0, len(asked), _TOGETHER):
        for user, best in bundle.recommend(asked[start : start + _TOGETHER], k).items():
            items = [one.item for one in best]
            if item in items:
                ranks[user] = items.index(item) + 1
    return len(asked), sorted(ranks.items(), key=lambda pair: pair[1])
