"""Middleware before every endpoint: host names, size of bodies, time limit, security headers, metrics."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmm4rec.serving.http.logs import log_request, request_id
from lmm4rec.serving.http.metrics import Metrics
from lmm4rec.serving.http.problems import Problem, problem_response
from lmm4rec.serving.http.settings import RELOAD, Settings

_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {
    # scripts, styles and images from here alone; no inline code, no frames, no forms to other sites
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Guard:
    """ASGI middleware around the whole app."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app, self._settings, self._metrics = app, settings, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = _without_prefix(scope, self._settings.root_path)
        id_ = request_id(Headers(scope=scope).get("x-request-id"))
        response = _Response(send, id_)
        start = time.perf_counter()
        try:
            refusal = self._refusal(scope)
            if not scope["path"]:  # the prefix without a slash, relative to which the page would not find its files
                to_page = RedirectResponse(f"{self._settings.root_path}/", HTTPStatus.PERMANENT_REDIRECT)
                await to_page(scope, receive, response.send)
            elif refusal:
                await problem_response(*refusal)(scope, receive, response.send)
            else:
                await self._answer(scope, self._bounded(receive), response)
        finally:
            self._count(scope, response.status, time.perf_counter() - start, id_)

    async def _answer(self, scope: Scope, receive: Receive, response: _Response) -> None:
        limit_s = self._settings.reload_timeout_s if scope["path"] == RELOAD else self._settings.timeout_s
        try:
            async with asyncio.timeout(limit_s):
                await self._app(scope, receive, response.send)
        except TimeoutError:
            if response.status:
                raise  # half of the response is sent: the connection is closed
            detail = f"no answer within {limit_s:g} s; try again with a smaller request"
            problem = problem_response(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": "5"})
            await problem(scope, receive, response.send)

    def _refusal(self, scope: Scope) -> tuple[HTTPStatus, str] | None:
        headers = Headers(scope=scope)
        known, host = self._settings.known_hosts, headers.get("host", "")
        if known and _without_port(host) not in known:
            return HTTPStatus.MISDIRECTED_REQUEST, f"this service does not answer to the host name '{host[:100]}'"
        if scope["method"] not in _READING and _from_other_origin(headers, host):
            return HTTPStatus.FORBIDDEN, "pages of another origin may not change anything here"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._settings.max_body:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large
        return None

    @property
    def _too_large(self) -> str:
        return f"the body may have up to {self._settings.max_body_mb:g} MB; send a smaller image"

    def _bounded(self, receive: Receive) -> Receive:
        """The body's parts, up to the limit: a chunked request does not state its length."""
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._settings.max_body:
                raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large)
            return message

        return bounded

    def _count(self, scope: Scope, status: int, seconds: float, id_: str) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)
        log_request(id_, method, route, status, seconds)


class _Response:
    """The response being sent: adds the headers and keeps the status (0 until it has begun)."""

    def __init__(self, send: Send, id_: str) -> None:
        self._send, self._id = send, id_
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = list(message.get("headers", ()))
            headers = MutableHeaders(raw=message["headers"])
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
            headers.setdefault("x-request-id", self._id)
        await self._send(message)


def _without_prefix(scope: Scope, prefix: str) -> Scope:
    """The request as the app sees it: without the path prefix, which a proxy may have cut off or kept."""
    if not prefix:
        return scope
    path, raw = scope["path"], scope.get("raw_path") or b""
    if path == prefix or path.startswith(f"{prefix}/"):
        path, raw = path[len(prefix) :], raw[len(prefix) :]
    return {**scope, "path": path, "raw_path": raw, "root_path": ""}


def _without_port(host: str) -> str:
    """The host name without its port."""
    name, _, port = host.lower().rpartition(":")
    return name if name and port.isdecimal() else host.lower()


def _from_other_origin(headers: Headers, host: str) -> bool:
    """Whether a browser states that the request comes from a page of another origin (programs state nothing)."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != host.lower()
