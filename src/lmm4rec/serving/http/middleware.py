"""What stands before every endpoint: known hosts, small bodies, an end to waiting, safe headers, counting."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmm4rec.serving.http.metrics import Metrics
from lmm4rec.serving.http.problems import Problem, problem_response
from lmm4rec.serving.http.settings import Settings

_METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "OPTIONS", "PUT", "PATCH"})
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS = {
    # scripts, styles and pictures from here alone; no inline code, no frames, no forms that leave
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
        exchange = _Exchange(send)
        start = time.perf_counter()
        try:
            refusal = self._refusal(scope)
            if refusal:
                await problem_response(*refusal)(scope, receive, exchange.send)
            else:
                await self._answer(scope, self._bounded(receive), exchange)
        finally:
            self._count(scope, exchange.status, time.perf_counter() - start)

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await self._app(scope, receive, exchange.send)
        except TimeoutError:
            if exchange.status:
                raise  # half an answer is out: the connection is closed
            detail = f"no answer within {self._settings.timeout_s:g} s; try again, with less at a time"
            response = problem_response(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"retry-after": "5"})
            await response(scope, receive, exchange.send)

    def _refusal(self, scope: Scope) -> tuple[HTTPStatus, str] | None:
        headers = Headers(scope=scope)
        known, host = self._settings.known_hosts, headers.get("host", "")
        if known and _name(host) not in known:
            return HTTPStatus.MISDIRECTED_REQUEST, f"this service does not answer to the host name '{host[:100]}'"
        if scope["method"] not in _READING and _from_elsewhere(headers, host):
            return HTTPStatus.FORBIDDEN, "pages of another origin may not write here"
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._settings.max_body:
            return HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large
        return None

    @property
    def _too_large(self) -> str:
        return f"the body may have up to {self._settings.max_body_mb:g} MB; send a smaller picture"

    def _bounded(self, receive: Receive) -> Receive:
        """The body's parts, until they are too many: a chunked request tells no length beforehand."""
        read = 0

        async def bounded() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self._settings.max_body:
                raise Problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._too_large)
            return message

        return bounded

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.requests.labels(method, route, str(status)).inc()
        self._metrics.seconds.labels(route).observe(seconds)


class _Exchange:
    """The way out: adds the headers and remembers the status (0 until the answer has begun)."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = list(message.get("headers", ()))
            headers = MutableHeaders(raw=message["headers"])
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
        await self._send(message)


def _name(host: str) -> str:
    """The host name without its port."""
    name, _, port = host.lower().rpartition(":")
    return name if name and port.isdecimal() else host.lower()


def _from_elsewhere(headers: Headers, host: str) -> bool:
    """Whether a browser says that the request comes from a page of another origin (programs say nothing)."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = headers.get("origin")
    return origin is not None and urlsplit(origin).netloc.lower() != host.lower()
