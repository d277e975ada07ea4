"""The dependencies of endpoints: the bundle that a request names, settings, write access."""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from http import HTTPStatus
from typing import Annotated, cast

from fastapi import Depends, Query, Request
from fastapi.dependencies.models import Dependant

from lmm4rec.core.errors import did_you_mean
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.serving.http.bundles import ServedBundles
from lmm4rec.serving.http.lookup import unknown_id
from lmm4rec.serving.http.problems import InvalidValue, Problem
from lmm4rec.serving.http.served_bundle import ServedBundle
from lmm4rec.serving.http.settings import MAX_ID, Settings


def all_bundles(request: Request) -> ServedBundles:
    """The bundles in service."""
    return cast(ServedBundles, request.app.state.bundles)


async def _bundle_as_it_is(
    request: Request,
    bundle: Annotated[
        str | None, Query(max_length=MAX_ID, description="a bundle's name (default: the first)", examples=[None])
    ] = None,
) -> ServedBundle:
    return all_bundles(request).get(bundle)


async def _bundle(served: Annotated[ServedBundle, Depends(_bundle_as_it_is)]) -> ServedBundle:
    served.update()
    return served


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
    if not token:
        raise Problem(
            HTTPStatus.FORBIDDEN,
            "this needs the service's token, and it was started without one (serve --token-env); to load the bundles "
            "again, send the process SIGHUP (kill -HUP)",
        )
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    same = hmac.compare_digest(given.strip().encode(), token.encode())  # takes equally long for any token
    if scheme.lower() != "bearer" or not same:
        detail = "this needs the header 'Authorization: Bearer TOKEN' with the service's token"
        raise Problem(HTTPStatus.UNAUTHORIZED, detail, headers={"www-authenticate": "Bearer"})


async def _require_known_parameters(request: Request) -> None:
    """Refuse a request with a query parameter that its endpoint does not take: a misspelled one would do nothing."""
    if not request.scope["query_string"]:
        return
    known = _query_parameters(request.scope["route"].dependant)
    unknown = [name for name in dict.fromkeys(request.query_params) if name not in known]
    if unknown:
        names = f"there are: {', '.join(known)}" if known else "it takes none"
        values = []
        for name in unknown[:5]:
            hint = did_you_mean(name, known)
            message = f"unknown parameter; {names}{'.' if hint else ''}{hint}"
            values.append(InvalidValue(where=f"query.{name[:100]}", message=message))
        detail = "; ".join(f"{value.where}: {value.message}" for value in values)
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, values)


def _query_parameters(dependant: Dependant) -> list[str]:
    """The names of the query parameters of an endpoint, its dependencies included."""
    own = [parameter.alias for parameter in dependant.query_params]
    return own + [name for inner in dependant.dependencies for name in _query_parameters(inner)]


# coroutines, though they await nothing: FastAPI would run plain functions in another thread
BundleOfRequest = Annotated[ServedBundle, Depends(_bundle)]
BundleAsItIs = Annotated[ServedBundle, Depends(_bundle_as_it_is)]  # perhaps without the latest interactions
WriteAccess = Depends(require_write_access)
Token = Depends(require_token)
KnownParameters = Depends(_require_known_parameters)


def require_known(ids: Vocabulary, given: Iterable[str]) -> None:
    """Refuse a request with unknown ids."""
    for id_ in given:
        if id_ not in ids:
            raise unknown_id(ids, id_)


def require_user(served: ServedBundle, user: str) -> None:
    """Refuse a request with an unknown user; one with posted interactions is known."""
    if not served.bundle.has_user(user):
        raise unknown_id(served.bundle.users, user)
