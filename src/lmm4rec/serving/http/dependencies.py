"""What endpoints take from the app: the bundle that a request names, the right to write."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Query, Request

from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.serving.http.bundles import ServedBundles
from lmm4rec.serving.http.lookup import unknown
from lmm4rec.serving.http.problems import Problem
from lmm4rec.serving.http.served_bundle import Served
from lmm4rec.serving.http.settings import MAX_ID, Settings


def all_bundles(request: Request) -> ServedBundles:
    """All bundles in service."""
    bundles: ServedBundles = request.app.state.bundles
    return bundles


async def _bundle(
    request: Request,
    bundle: Annotated[
        str | None, Query(max_length=MAX_ID, description="a bundle's name (default: the first)", examples=[None])
    ] = None,
) -> Served:
    return all_bundles(request).get(bundle)


def settings_of(request: Request) -> Settings:
    """The service's settings."""
    settings: Settings = request.app.state.settings
    return settings


async def may_write(request: Request) -> None:
    """Refuse who may not change the items."""
    settings = settings_of(request)
    if settings.writing == "off":
        raise Problem(
            HTTPStatus.FORBIDDEN, "writing is off: the service is open to others and has no token (serve --token-env)"
        )
    if settings.writing == "token":
        await check_token(request)


async def check_token(request: Request) -> None:
    """Refuse who does not know the token; a service without one has nobody who does."""
    token = settings_of(request).token
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), (token or "").encode())  # takes as long for any wrong token
    if not token or scheme.lower() != "bearer" or not same:
        detail = "this needs the header 'Authorization: Bearer TOKEN' with the service's token"
        raise Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"www-authenticate": "Bearer"})


# these are coroutines though they wait for nothing: plain functions would each take a trip to another thread
Bundled = Annotated[Served, Depends(_bundle)]
Writer = Depends(may_write)
Owner = Depends(check_token)


def check(ids: Vocabulary, given: Iterable[str]) -> None:
    """Refuse unknown ids."""
    for id_ in given:
        if id_ not in ids:
            raise unknown(ids, id_)
