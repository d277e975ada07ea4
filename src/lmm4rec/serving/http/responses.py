"""From what a bundle says to what the service sends."""

from __future__ import annotations

from collections.abc import Iterable

from lmm4rec.serving.answers import Explanation, Recommendation
from lmm4rec.serving.http.schemas import Card, Near, Reason
from lmm4rec.serving.http.served_bundle import Served


def card(served: Served, item: str, title: str, score: float | None = None) -> Card:
    """One item as a card."""
    return Card(id=item, title=title, score=score, picture=served.picture(item), added=item in served.added)


def cards(served: Served, found: Iterable[Recommendation]) -> list[Card]:
    """Items and their scores as cards."""
    return [card(served, one.item, one.title, one.score) for one in found]


def reason(served: Served, explanation: Explanation, nearest: int = 3) -> Reason:
    """Why an item is recommended."""
    near = [
        Near(id=one.item, title=one.title, similarity=one.score, picture=served.picture(one.item))
        for one in explanation.nearest[:nearest]
    ]
    return Reason(score=explanation.score, shares=dict(explanation.shares), nearest=near)
