"""Errors as the service tells them: one JSON shape (RFC 9457) for all."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema
from starlette.exceptions import HTTPException

from lmm4rec.core.errors import DataError, LMM4RecError

logger = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"


class Place(BaseModel):
    """One wrong value of a request."""

    where: str = Field(description="the value's place", examples=["query.k"])
    message: str = Field(examples=["Input should be less than or equal to 500"])


class ProblemBody(BaseModel):
    """What every error looks like."""

    status: int = Field(examples=[404])
    title: str = Field(examples=["Not Found"])
    detail: str = Field(description="what was given, what was expected, what to do", examples=["unknown user 'u9'"])
    errors: list[Place] = Field(default=[], description="each wrong value, where there are several")


class Problem(HTTPException):
    """A request that cannot be answered as asked."""

    def __init__(
        self, status: HTTPStatus, detail: str, places: Sequence[Place] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(int(status), detail, headers=headers)
        self.places = list(places)


def problem_response(
    status: int, detail: str, places: Sequence[Place] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response of an error."""
    body = ProblemBody(status=status, title=HTTPStatus(status).phrase, detail=detail, errors=list(places))
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of an endpoint, for its documentation."""
    schema = {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}}
        for status in (400, *statuses, 403, 413, 421, 422, 503)
    }


def install(app: FastAPI) -> None:
    """Make every error of the app a problem; what nobody foresaw is logged and told without its inner life."""
    document = app.openapi

    def documented() -> dict[str, Any]:
        whole = document()
        _, schemas = models_json_schema([(ProblemBody, "serialization")], ref_template="#/components/schemas/{model}")
        whole.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
        return whole

    app.openapi = documented  # type: ignore[method-assign]

    @app.exception_handler(HTTPException)
    async def told(request: Request, error: HTTPException) -> JSONResponse:
        places = error.places if isinstance(error, Problem) else ()
        return problem_response(error.status_code, str(error.detail), places, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        places = [
            Place(where=".".join(str(part) for part in one["loc"]), message=str(one["msg"])) for one in error.errors()
        ]
        detail = "; ".join(f"{place.where}: {place.message}" for place in places[:5])
        return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, detail, places)

    @app.exception_handler(DataError)
    async def senseless(request: Request, error: DataError) -> JSONResponse:
        return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    @app.exception_handler(LMM4RecError)
    async def impossible(request: Request, error: LMM4RecError) -> JSONResponse:
        return problem_response(HTTPStatus.CONFLICT, str(error))

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem_response(
            HTTPStatus.INTERNAL_SERVER_ERROR, "the service failed; its log says where, please report it"
        )
