"""The dependencies of endpoints: the bundle that a request names, settings, write access."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, cast

from fastapi import Depends, Query, Request

from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.serving.http.bundles import ServedBundles
from lmm4rec.serving.http.lookup import unknown_id
from lmm4rec.serving.http.problems import Problem
from lmm4rec.serving.http.served_bundle import ServedBundle
from lmm4rec.serving.http.settings import MAX_ID, Settings


def all_bundles(request: Request) -> ServedBundles:
    """The bundles in service."""
    return cast(ServedBundles, request.app.state.bundles)


async def _bundle(
    request: Request,
    bundle: Annotated[
        str | None, Query(max_length=MAX_ID, description="a bundle's name (default: the first)", examples=[None])
    ] = None,
) -> ServedBundle:
    return all_bundles(request).get(bundle)


def settings_of(request: Request) -> Settings:
    """The service's settings."""
    return cast(Settings, request.app.state.settings)


async def require_write_access(request: Request) -> None:
    """Refuse a request that may not add or delete items."""
    settings = settings_of(request)
    if settings.writing == "off":
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "writing is off: other machines reach this service and it has no token (serve --token-env)",
        )
    if settings.writing == "token":
        await require_token(request)


async def require_token(request: Request) -> None:
    """Refuse a request without the service's token; every request where the service has none."""
    token = settings_of(request).token
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), (token or "").encode())  # takes equally long for any token
    if not token or scheme.lower() != "bearer" or not same:
        detail = "this needs the header 'Authorization: Bearer TOKEN' with the service's token"
        raise Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"www-authenticate": "Bearer"})


# coroutines, though they await nothing: FastAPI would run plain functions in another thread
BundleOfRequest = Annotated[ServedBundle, Depends(_bundle)]
WriteAccess = Depends(require_write_access)
Token = Depends(require_token)


def require_known(ids: Vocabulary, given: Iterable[str]) -> None:
    """Refuse a request with unknown ids."""
    for id_ in given:
        if id_ not in ids:
            raise unknown_id(ids, id_)
