"""Endpoints of users: recommendations, histories, explanations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from lmm4rec.serving.http.dependencies import BundleOfRequest, KnownParameters, require_known, require_user
from lmm4rec.serving.http.problems import responses
from lmm4rec.serving.http.responses import card, listing, reason
from lmm4rec.serving.http.schemas import (
    Card,
    Cards,
    Id,
    K,
    Limit,
    Offset,
    Only,
    Reason,
    TextFilter,
    UnknownUser,
    UserPage,
    UserPath,
    UserSummary,
)
from lmm4rec.serving.http.served_bundle import RecommendOptions, ServedBundle

router = APIRouter(tags=["users"], dependencies=[KnownParameters])


@router.get("/recommend/{user:path}", responses=responses(404, 409))
async def recommend(
    served: BundleOfRequest,
    user: UserPath,
    k: K = 10,
    exclude_seen: Annotated[bool, Query(description="leave out the items of the user's history")] = True,
    reasons: Annotated[bool, Query(description="give the reason for each item")] = False,
    only: Only = [],  # noqa: B006 - FastAPI copies defaults
) -> Cards:
    """The best items for a user, best first."""
    require_user(served, user)
    if only:
        require_known(served.bundle.items, only)
        bundle = served.bundle
        best = (
            await served.run(
                lambda: bundle.recommend([user], k, exclude_seen=exclude_seen, only=list(dict.fromkeys(only)))
            )
        )[user]
    else:
        best = await served.recommend(user, RecommendOptions(k, exclude_seen))
    answer = listing(served, best, k)
    if reasons:
        await served.run(lambda: _add_reasons(served, user, answer.items))
    return answer


def _add_reasons(served: ServedBundle, user: str, found: list[Card]) -> None:
    for one in found:
        one.reason = reason(served, served.bundle.explain(user, one.id))


@router.post("/recommend", responses=responses(404, 409))
async def recommend_for(served: BundleOfRequest, user: UnknownUser) -> Cards:
    """The best items for a user whom the model was not trained on, from the items of their history."""
    require_known(served.bundle.items, user.history + (user.only or []))
    best = await served.run(
        lambda: served.bundle.recommend_for(list(dict.fromkeys(user.history)), user.k, only=user.only or None)
    )
    return listing(served, best, user.k)


@router.get("/users", responses=responses(404))
async def users(served: BundleOfRequest, q: TextFilter = "", offset: Offset = 0, limit: Limit = 50) -> UserPage:
    """The users whose id contains a text; those whose id begins with it come first."""
    found = await served.run(lambda: served.find_users(q))
    page = [UserSummary(id=user, history=served.bundle.history_length(user)) for user in found[offset : offset + limit]]
    return UserPage(bundle=served.name, total=len(found), offset=offset, users=page)


@router.get("/users/{user:path}/history", responses=responses(404))
async def history(served: BundleOfRequest, user: UserPath, k: K = 50) -> Cards:
    """The items of a user, the latest first where the log has times."""
    require_user(served, user)
    seen = await served.run(lambda: served.bundle.history(user))
    return Cards(bundle=served.name, items=[card(served, one.item, one.title) for one in seen[:k]])


@router.get("/explain", responses=responses(404, 409))
async def explain(served: BundleOfRequest, user: Annotated[Id, Query()], item: Annotated[Id, Query()]) -> Reason:
    """Why a user would get an item: the summands of the score, and the most similar items of the user."""
    require_user(served, user)
    require_known(served.bundle.items, [item])
    return reason(served, await served.run(lambda: served.bundle.explain(user, item)), nearest=10)
