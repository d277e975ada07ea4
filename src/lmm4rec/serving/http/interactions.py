"""Endpoints of interactions: posting them, reading them back, erasing a user."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic import ValidationError
from starlette.requests import ClientDisconnect

from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.http.dependencies import (
    BundleAsItIs,
    BundleOfRequest,
    KnownParameters,
    WriteAccess,
    all_bundles,
    require_write_access,
)
from lmm4rec.serving.http.interaction_schemas import (
    ErasedUser,
    Posted,
    PostedAnswer,
    PostedInteractions,
    StoredInteraction,
    StoredInteractions,
)
from lmm4rec.serving.http.problems import InvalidValue, Problem, responses
from lmm4rec.serving.http.schemas import UserPath
from lmm4rec.serving.http.settings import MAX_EARLY_S, MAX_ID
from lmm4rec.serving.posted_interactions import PostedInteraction

router = APIRouter(tags=["interactions"], dependencies=[KnownParameters])
_MILLISECONDS = 1e11  # a time above this is in the year 5138, or not in seconds


class _RouteOfPosts(APIRoute):
    """The route of posts: the many that are right are answered without FastAPI's resolving of dependencies.

    That takes two thirds of a post's time. A post with query parameters or a wrong body goes FastAPI's way.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of a request."""
        usual = super().get_route_handler()

        async def handle(request: Request) -> Response:
            if request.scope["query_string"] or request.headers.get("content-type") != "application/json":
                return await usual(request)
            await require_write_access(request)
            try:
                body = PostedInteractions.model_validate_json(await request.body())
            except (ValidationError, ClientDisconnect):
                return await usual(request)  # which words the error
            return await post_interactions(all_bundles(request).get(None), body)

        return handle


async def post_interactions(served: BundleAsItIs, body: PostedInteractions) -> Response:
    """Post what users did: on response it is on disk, and in their recommendations.

    Send the same request again where no response came: interactions with an id, or with a time, count once. Where one
    is refused, none is stored.
    """
    now, bundle = time.time(), served.bundle
    if wrong := [value for place, one in enumerate(body.interactions) for value in _wrong(one, place, bundle, now)]:
        detail = f"{wrong[0].where}: {wrong[0].message}"
        detail += f", and {len(wrong) - 1:,} more wrong values" if len(wrong) > 1 else ""
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{detail}. Nothing was stored", wrong[:100])
    posted = [_with_defaults(one, now) for one in body.interactions]
    new_users = dict.fromkeys(one.user for one in posted if one.user not in bundle.users)
    unknown = dict.fromkeys(one.item for one in posted if one.item not in bundle.items)
    new = await served.feedback.post(posted)
    answer = PostedAnswer(
        bundle=served.name, new=sum(new), repeated=len(new) - sum(new), new_users=list(new_users),
        unknown_items=list(unknown),
    )  # fmt: skip
    return Response(answer.model_dump_json(), media_type="application/json")  # FastAPI would check it once more


def _wrong(one: Posted, place: int, bundle: Bundle, now: float) -> Iterator[InvalidValue]:
    """What is wrong with an interaction beyond its form."""
    where = f"body.interactions.{place}"
    if one.time is not None and one.time > now + MAX_EARLY_S:
        hint = "; times are in seconds, not milliseconds" if one.time > _MILLISECONDS else ""
        ahead = f"{one.time - now:,.0f} s" if one.time < _MILLISECONDS else "far"
        message = f"{one.time:.12g} lies {ahead} in the future{hint}"
        yield InvalidValue(where=f"{where}.time", message=message)
    for name, id_, known in (("user", one.user, bundle.users), ("item", one.item, bundle.items)):
        if (id_ != id_.strip() or not id_.isprintable()) and id_ not in known:  # tables are read without such spaces
            message = f"the id {id_[:100]!r} has a space at an end, or a character that cannot be printed"
            yield InvalidValue(where=f"{where}.{name}", message=message)


def _with_defaults(one: Posted, now: float) -> PostedInteraction:
    id_ = one.id
    if id_ is None and one.time is not None:
        parts = "\0".join((one.user, one.item, one.kind, repr(one.time)))
        id_ = hashlib.sha256(parts.encode()).hexdigest()[:32]
    return PostedInteraction(
        one.user, one.item, one.kind, now if one.time is None else one.time, id_ or secrets.token_hex(16)
    )


router.add_api_route(
    "/interactions", post_interactions, methods=["POST"], response_model=PostedAnswer, dependencies=[WriteAccess],
    responses=responses(401, 404), route_class_override=_RouteOfPosts,
)  # fmt: skip


@router.get("/interactions", dependencies=[WriteAccess], responses=responses(401, 404))
async def stored_interactions(
    served: BundleOfRequest,
    after: Annotated[int, Query(ge=0, le=2**53, description="the place after which to begin")] = 0,
    limit: Annotated[int, Query(ge=1, le=10_000, description="how many to list")] = 1_000,
) -> StoredInteractions:
    """The posted interactions, for the next training: in the order in which they were acknowledged."""
    stored = await served.run(lambda: served.feedback.stored(after, limit))
    rows = [StoredInteraction(place=place, **one._asdict()) for place, one in stored]
    return StoredInteractions(
        bundle=served.name, interactions=rows, next=rows[-1].place if len(rows) == limit else None
    )


@router.delete(
    "/interactions/{id:path}",
    status_code=HTTPStatus.NO_CONTENT,
    dependencies=[WriteAccess],
    responses=responses(401, 404),
)
async def retract_interaction(
    served: BundleAsItIs,
    id_: Annotated[
        str, Path(alias="id", min_length=1, max_length=MAX_ID, description="its id", examples=["order 17, line 1"])
    ],
) -> None:
    """Retract one posted interaction, such as for an undo: on response it is gone from disk and lists.

    Send the same request again where no response came. A post with the same id does not count from then on. What a
    bundle was trained on stays until the next training.
    """
    if not await served.feedback.retract(id_):
        raise Problem(HTTPStatus.NOT_FOUND, f"no interaction has the id '{id_[:100]}'")


@router.delete("/users/{user:path}", dependencies=[WriteAccess], responses=responses(401, 404))
async def erase_user(request: Request, user: UserPath) -> ErasedUser:
    """Erase a user from every bundle: posted interactions, history and vector, in memory and on disk.

    The next training learns from the user again unless they leave the shop's own log, too; `lmm4rec refresh` leaves out
    what is older than the erasure.
    """
    erased = [await served.erase(user) for served in all_bundles(request)]
    if not any(one.interactions or one.was_trained for one in erased):
        raise Problem(HTTPStatus.NOT_FOUND, f"nothing is stored of a user '{user[:100]}'")
    return ErasedUser(erased=erased)
