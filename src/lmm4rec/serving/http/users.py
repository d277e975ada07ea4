"""Endpoints of users: recommendations, histories, explanations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query

from lmm4rec.core.errors import ConfigError
from lmm4rec.serving.answers import Recommendation
from lmm4rec.serving.catalog_filters import NothingPassesError
from lmm4rec.serving.http.dependencies import BundleOfRequest, KnownParameters, require_known, require_user
from lmm4rec.serving.http.problems import responses
from lmm4rec.serving.http.responses import card, listing, reason, ruled_listing
from lmm4rec.serving.http.schemas import (
    Card,
    Cards,
    Id,
    K,
    Limit,
    Offset,
    Only,
    Reason,
    RulesName,
    TextFilter,
    UnknownUser,
    UserPage,
    UserPath,
    UserSummary,
    Where,
)
from lmm4rec.serving.http.served_bundle import RecommendOptions, ServedBundle
from lmm4rec.serving.http.served_rules import chosen_rules, parsed_filters, refused_filters
from lmm4rec.serving.rule_ranking import RuledList

router = APIRouter(tags=["users"], dependencies=[KnownParameters])


@router.get("/recommend/{user:path}", responses=responses(404, 409))
async def recommend(
    served: BundleOfRequest,
    user: UserPath,
    k: K = 10,
    exclude_seen: Annotated[bool, Query(description="leave out the items of the user's history")] = True,
    reasons: Annotated[bool, Query(description="give the reason for each item")] = False,
    only: Only = [],  # noqa: B006 - FastAPI copies defaults
    where: Where = [],  # noqa: B006
    rules: RulesName = None,
) -> Cards:
    """The best items for a user, best first."""
    require_user(served, user)
    require_known(served.bundle.items, only)
    bundle, among = served.bundle, list(dict.fromkeys(only)) or None
    filters = parsed_filters(where, "query.where")
    if rules is not None:
        chosen = chosen_rules(served.rules.sets, rules).with_filters(filters)
        work = partial(bundle.recommend_by_rules, [user], k, chosen, exclude_seen=exclude_seen, only=among)
        answer = await _ruled(served, lambda: work()[user], k, rules, "query.where")
    elif among or filters:
        filtered = partial(bundle.recommend, [user], k, exclude_seen=exclude_seen, only=among, where=filters)
        answer = await _filtered(served, lambda: filtered()[user], k, "query.where")
    else:
        answer = listing(served, await served.recommend(user, RecommendOptions(k, exclude_seen)), k)
    if reasons:
        await served.run(lambda: _add_reasons(served, user, answer.items))
    return answer


async def _ruled(served: ServedBundle, work: Callable[[], RuledList], k: int, rules: str, where: str) -> Cards:
    try:
        return ruled_listing(served, await served.run(work), k, rules)
    except ConfigError as error:  # of the request's own filters: those of the rules fit the bundle
        raise refused_filters(error, where) from None


async def _filtered(served: ServedBundle, work: Callable[[], list[Recommendation]], k: int, where: str) -> Cards:
    try:
        return listing(served, await served.run(work), k)
    except NothingPassesError as error:
        return Cards(bundle=served.name, items=[], note=str(error))
    except ConfigError as error:
        raise refused_filters(error, where) from None


def _add_reasons(served: ServedBundle, user: str, found: list[Card]) -> None:
    for one in found:
        one.reason = reason(served, served.bundle.explain(user, one.id))


@router.post("/recommend", responses=responses(404, 409))
async def recommend_for(served: BundleOfRequest, user: UnknownUser) -> Cards:
    """The best items for a user whom the model was not trained on, from the items of their history.

    Models of sequences read the history in its order, the latest item last.
    """
    require_known(served.bundle.items, user.history + (user.only or []))
    bundle, history = served.bundle, user.history
    filters = parsed_filters(user.where, "body.where")
    if user.rules is not None:
        chosen = chosen_rules(served.rules.sets, user.rules).with_filters(filters)
        ruled = partial(bundle.recommend_for_by_rules, history, user.k, chosen, only=user.only or None)
        return await _ruled(served, ruled, user.k, user.rules, "body.where")
    work = partial(bundle.recommend_for, history, user.k, only=user.only or None, where=filters)
    return await _filtered(served, work, user.k, "body.where")


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
