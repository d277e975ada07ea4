"""The FastAPI app that serves bundles."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path, PurePath

from fastapi import FastAPI
from fastapi.responses import Response

from lmm4rec.core.errors import ConfigError
from lmm4rec.serving.http import interactions, items, problems, service, users
from lmm4rec.serving.http.bundles import ServedBundles
from lmm4rec.serving.http.metrics import Metrics
from lmm4rec.serving.http.middleware import Guard
from lmm4rec.serving.http.settings import Settings

_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_PAGES = {"index.html": "/", "docs.html": "/docs"}  # the other files are at /page/NAME
_ROUTERS = [module.router for module in (interactions, users, items, service)]
_ABOUT = """Recommendations, similar items and search from trained bundles.

Ids are those of the data set. Every error is a problem (RFC 9457) with `status`, `title`, `detail` and, for
wrong values, `errors`. Query parameters that an endpoint does not know are refused. If the service has a token, adding
and deleting items, posting and reading interactions, and erasing users need the header `Authorization: Bearer TOKEN`;
loading the bundles again (`/reload`) always does, so a service without a token refuses it (`kill -HUP` reloads too)."""


def make_app(folders: Sequence[Path], settings: Settings) -> FastAPI:
    """The app that serves the bundles in these run folders, the first one by default.

    Raises:
        CheckpointError: a folder has no bundle, or its added items cannot be read.
    """
    metrics = Metrics()
    bundles = ServedBundles(folders, settings, metrics)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        watching = asyncio.create_task(bundles.watch())
        yield
        watching.cancel()
        bundles.close()

    app = FastAPI(
        title="lmm4rec", version=version("lmm4rec"), description=_ABOUT, lifespan=lifespan,
        servers=[{"url": settings.root_path}] if settings.root_path else None,
        docs_url=None, redoc_url=None,  # FastAPI's pages load scripts from other sites; /docs is our own
    )  # fmt: skip
    app.state.bundles, app.state.settings, app.state.metrics, app.state.stopping = bundles, settings, metrics, False
    problems.install_handlers(app)
    _refuse_own_path(settings.root_path)
    for router in _ROUTERS:
        app.include_router(router)
    _serve_pages(app)
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    return app


def _refuse_own_path(prefix: str) -> None:
    """Refuse a path prefix that begins like a path of the service: requests under it could mean both."""
    paths = [str(getattr(route, "path", "/")) for router in _ROUTERS for route in router.routes]
    own = {f"/{path.split('/')[1]}" for path in [*paths, "/page", "/docs", "/openapi.json"]}
    first = f"/{prefix.split('/')[1]}" if prefix else ""
    if first in own:
        raise ConfigError(f"--root-path {prefix} begins like the service's own {first}/...; choose another prefix")


def _serve_pages(app: FastAPI) -> None:
    """Serve the page's files, read once: a request cannot name other files."""
    for file in (files("lmm4rec.serving") / "page").iterdir():
        path = _PAGES.get(file.name, f"/page/{file.name}")
        endpoint = _static(file.read_bytes(), _KINDS[PurePath(file.name).suffix])
        app.add_api_route(path, endpoint, methods=["GET", "HEAD"], include_in_schema=False, response_class=Response)


def _static(content: bytes, kind: str) -> Callable[[], Awaitable[Response]]:
    async def page() -> Response:
        return Response(content, media_type=kind, headers={"cache-control": "no-cache"})

    return page
