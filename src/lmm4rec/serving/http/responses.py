"""Conversion of a bundle's answers to those of the service."""

from __future__ import annotations

from collections.abc import Iterable

from lmm4rec.serving.answers import Explanation, Recommendation
from lmm4rec.serving.http.schemas import AppliedRules, Card, Cards, LeftOut, NearestItem, Reason
from lmm4rec.serving.http.served_bundle import ServedBundle
from lmm4rec.serving.http.served_rules import changes
from lmm4rec.serving.rule_ranking import RuledList


def card(served: ServedBundle, item: str, title: str, score: float | None = None) -> Card:
    """The card of an item."""
    return Card(id=item, title=title, score=score, picture=served.image_path(item), added=item in served.items.added)


def listing(served: ServedBundle, found: Iterable[Recommendation], k: int) -> Cards:
    """The answer with the best `k` items that were found; with a note where `k` is above the catalog."""
    count = len(served.bundle.items)
    note = f"k is {k:,}, the catalog has {count:,} items: lists have no more" if k > count else None
    return Cards(bundle=served.name, items=cards(served, found), note=note)


def ruled_listing(served: ServedBundle, found: RuledList, k: int, name: str) -> Cards:
    """The answer of a list by the rule set of this name."""
    answer, bundle = listing(served, found.items, k), served.bundle
    place = {item: at for at, item in enumerate(found.without_rules, start=1)}
    for one in answer.items:
        one.rules, one.place_without_rules = list(found.reasons.get(one.id, ())), place.get(one.id)
    left_out = [
        LeftOut(id=item, title=bundle.title(item), picture=served.image_path(item), place=place[item], rule=rule)
        for item, rule in found.left_out.items()
        if item in bundle.items  # it may have been removed a moment ago
    ]
    answer.rules = AppliedRules(name=name, changes=changes(found), left_out=left_out)
    return answer


def cards(served: ServedBundle, found: Iterable[Recommendation]) -> list[Card]:
    """The cards of items, with their scores."""
    return [card(served, one.item, one.title, one.score) for one in found]


def reason(served: ServedBundle, explanation: Explanation, nearest: int = 3) -> Reason:
    """The reason of a recommendation."""
    near = [
        NearestItem(id=one.item, title=one.title, similarity=one.score, picture=served.image_path(one.item))
        for one in explanation.nearest[:nearest]
    ]
    return Reason(score=explanation.score, shares=dict(explanation.shares), nearest=near)
