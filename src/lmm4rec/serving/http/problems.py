"""Error responses: one JSON shape (RFC 9457) for all."""

from __future__ import annotations

import logging
import sqlite3
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


class InvalidValue(BaseModel):
    """One wrong value of a request."""

    where: str = Field(description="where the value is", examples=["query.k"])
    message: str = Field(examples=["Input should be less than or equal to 500"])


class ProblemBody(BaseModel):
    """The body of every error response."""

    status: int = Field(examples=[404])
    title: str = Field(examples=["Not Found"])
    detail: str = Field(description="what was given, what was expected, what to do", examples=["unknown user 'u9'"])
    errors: list[InvalidValue] = Field(default=[], description="the wrong values, where there are several")


class Problem(HTTPException):
    """The error of a request that cannot be answered."""

    def __init__(
        self,
        status: HTTPStatus,
        detail: str,
        values: Sequence[InvalidValue] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(int(status), detail, headers=headers)
        self.values = list(values)


def not_written(error: sqlite3.Error) -> Problem:
    """The problem of a change that could not be written to a file."""
    logger.error("a file of the service cannot be written", exc_info=error)
    return Problem(
        HTTPStatus.SERVICE_UNAVAILABLE, f"the change could not be written to disk ({error}); nothing changed"
    )


def problem_response(
    status: int, detail: str, values: Sequence[InvalidValue] = (), headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response to a request that failed."""
    body = ProblemBody(status=status, title=HTTPStatus(status).phrase, detail=detail, errors=list(values))
    return JSONResponse(body.model_dump(), status, headers=headers, media_type=MEDIA_TYPE)


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The error responses of an endpoint, for its documentation."""
    schema = {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
    return {
        status: {"description": HTTPStatus(status).phrase, "content": {MEDIA_TYPE: schema}}
        for status in (400, *statuses, 403, 413, 421, 422, 503)
    }


def install_handlers(app: FastAPI) -> None:
    """Make every error of the app a problem; unexpected ones are logged, and answered without details."""
    openapi = app.openapi

    def openapi_with_problems() -> dict[str, Any]:
        document = openapi()
        _, schemas = models_json_schema([(ProblemBody, "serialization")], ref_template="#/components/schemas/{model}")
        document.setdefault("components", {}).setdefault("schemas", {}).update(schemas["$defs"])
        return document

    app.openapi = openapi_with_problems  # type: ignore[method-assign]

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        values = error.values if isinstance(error, Problem) else ()
        return problem_response(error.status_code, str(error.detail), values, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid_values(request: Request, error: RequestValidationError) -> JSONResponse:
        values = [
            InvalidValue(where=".".join(str(part) for part in one["loc"]), message=str(one["msg"]))
            for one in error.errors()
        ]
        detail = "; ".join(f"{value.where}: {value.message}" for value in values[:5])
        return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, detail, values)

    @app.exception_handler(DataError)
    async def data_error(request: Request, error: DataError) -> JSONResponse:
        return problem_response(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))

    @app.exception_handler(LMM4RecError)
    async def bundle_error(request: Request, error: LMM4RecError) -> JSONResponse:
        return problem_response(HTTPStatus.CONFLICT, str(error))

    @app.exception_handler(Exception)
    async def unexpected_error(request: Request, error: Exception) -> JSONResponse:
        logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
        return problem_response(HTTPStatus.INTERNAL_SERVER_ERROR, "the service failed; its log says where; report it")
