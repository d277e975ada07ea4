"""What a person gets: recommendations, their history, and why."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from lmm4rec.serving.http.dependencies import Bundled, check
from lmm4rec.serving.http.problems import responses
from lmm4rec.serving.http.responses import card, cards, reason
from lmm4rec.serving.http.schemas import (
    Card,
    Cards,
    Id,
    K,
    Limit,
    Newcomer,
    Offset,
    Only,
    Person,
    Reason,
    UserPage,
    UserPath,
    Words,
)
from lmm4rec.serving.http.served_bundle import Served, Wish

router = APIRouter(tags=["people"])


@router.get("/recommend/{user:path}", responses=responses(404, 409))
async def recommend(
    served: Bundled,
    user: UserPath,
    k: K = 10,
    exclude_seen: Annotated[bool, Query(description="leave out what the user has")] = True,
    reasons: Annotated[bool, Query(description="say why, for each item")] = False,
    only: Only = [],  # noqa: B006 - FastAPI copies defaults
) -> Cards:
    """The best items for a user, best first."""
    check(served.bundle.users, [user])
    if only:
        check(served.bundle.items, only)
        bundle = served.bundle
        best = (
            await served.run(
                lambda: bundle.recommend([user], k, exclude_seen=exclude_seen, only=list(dict.fromkeys(only)))
            )
        )[user]
    else:
        best = await served.recommend(user, Wish(k, exclude_seen))
    found = cards(served, best)
    if reasons:
        await served.run(lambda: _add_reasons(served, user, found))
    return Cards(bundle=served.name, items=found)


def _add_reasons(served: Served, user: str, found: list[Card]) -> None:
    for one in found:
        one.reason = reason(served, served.bundle.explain(user, one.id))


@router.post("/recommend", responses=responses(404, 409))
async def recommend_for(served: Bundled, newcomer: Newcomer) -> Cards:
    """The best items for a person whom the model has never seen, by the items that they like."""
    check(served.bundle.items, newcomer.history + (newcomer.only or []))
    best = await served.run(
        lambda: served.bundle.recommend_for(
            list(dict.fromkeys(newcomer.history)), newcomer.k, only=newcomer.only or None
        )
    )
    return Cards(bundle=served.name, items=cards(served, best))


@router.get("/users", responses=responses(404))
async def users(served: Bundled, q: Words = "", offset: Offset = 0, limit: Limit = 50) -> UserPage:
    """The users whose id holds some words, those that begin with them first."""
    found = await served.run(lambda: served.find_users(q))
    people = [Person(id=user, history=served.history_length(user)) for user in found[offset : offset + limit]]
    return UserPage(bundle=served.name, total=len(found), offset=offset, users=people)


@router.get("/users/{user:path}/history", responses=responses(404))
async def history(served: Bundled, user: UserPath, k: K = 50) -> Cards:
    """What a user has, the latest first where the log has times."""
    check(served.bundle.users, [user])
    seen = await served.run(lambda: served.bundle.history(user))
    return Cards(bundle=served.name, items=[card(served, one.item, one.title) for one in seen[:k]])


@router.get("/explain", responses=responses(404, 409))
async def explain(served: Bundled, user: Annotated[Id, Query()], item: Annotated[Id, Query()]) -> Reason:
    """Why a user would get an item: what each part of the model gives to the score, and the nearest liked items."""
    check(served.bundle.users, [user])
    check(served.bundle.items, [item])
    return reason(served, await served.run(lambda: served.bundle.explain(user, item)), nearest=10)
