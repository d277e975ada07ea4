"""The server process: uvicorn, with a graceful stop, and a reload on SIGHUP."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import Multiprocess

from lmm4rec.core.errors import ConfigError, LMM4RecError
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.bundles import ServedBundles
from lmm4rec.serving.http.header_limits import HeaderLimits
from lmm4rec.serving.http.logs import use_json_lines
from lmm4rec.serving.http.metrics import SHARED
from lmm4rec.serving.http.served_rules import RefusedRulesError, tell_others_of
from lmm4rec.serving.http.settings import Settings

logger = logging.getLogger(__name__)
_STOP_S = 15  # for requests in progress when the service stops
_CONNECTIONS = 1024  # more are refused
_START_S = 300  # that a process of several has to load its bundles
_SWITCH_S = (
    0.0005  # after which the event loop lets a thread that ranks go on; with Python's 5 ms a list waits for long
)


class _Server(uvicorn.Server):
    """uvicorn's server, which tells the app that it is stopping, so that /ready tells load balancers."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        _reload_on_signal(self._app)
        await super().startup(sockets)

    def handle_exit(self, sig: int, frame: object) -> None:
        self._app.state.stopping = True
        super().handle_exit(sig, frame)  # type: ignore[arg-type]


def serve(
    folders: Sequence[Path], settings: Settings, *, workers: int = 1, started: Callable[[str], None] = lambda url: None
) -> None:
    """Serve the bundles of these run folders until a signal stops it, by so many processes.

    SIGTERM and SIGINT stop it once the requests in progress are answered; SIGHUP reloads the bundles. `started` is
    called with the address just before requests are accepted.

    Raises:
        ConfigError: the address or the port cannot be used.
        CheckpointError: a folder has no bundle, or its added items cannot be read.
    """
    _warn_if_public(settings)
    with _listen(settings.host, settings.port) as listening:
        app = make_app(folders, settings)  # by several processes: to report errors before they start
        url = f"http://{'localhost' if settings.is_local else settings.host}:{listening.getsockname()[1]}/"
        if workers == 1:
            _without_collections()
            started(url)
            _Server(_config(app), app).run([listening])
        else:
            app.state.bundles.close()
            del app
            started(url)
            _serve_by_several(folders, settings, workers, listening)


def _config(app: FastAPI | Callable[[], FastAPI], *, workers: int = 1) -> uvicorn.Config:
    return uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, limit_concurrency=_CONNECTIONS,
        http=HeaderLimits, timeout_keep_alive=20, timeout_graceful_shutdown=_STOP_S, lifespan="on",
        workers=workers, factory=workers > 1, timeout_worker_healthcheck=_START_S,
    )  # fmt: skip


def _serve_by_several(folders: Sequence[Path], settings: Settings, workers: int, listening: socket.socket) -> None:
    """Serve by several processes, which share the socket, the files beside the bundles and the metrics.

    One that ends is replaced. SIGHUP replaces one after the other, each once its successor is ready.
    """
    with tempfile.TemporaryDirectory() as shared:
        os.environ[SHARED] = shared
        factory = partial(_app_of_worker, tuple(folders), settings, logging.getLogger().level)
        Multiprocess(_config(factory, workers=workers), [listening]).run()


def _app_of_worker(folders: Sequence[Path], settings: Settings, log_level: int) -> FastAPI:
    logging.basicConfig(level=log_level, format="%(message)s")
    if settings.json_logs:
        use_json_lines()
    try:
        app = make_app(folders, settings)
    except LMM4RecError as error:
        if isinstance(error, RefusedRulesError):
            tell_others_of(error)  # they serve on with the earlier rules
        logger.error("%s", error)
        sys.exit(STARTUP_FAILURE)
    _without_collections()
    return app


def _without_collections() -> None:
    """Exempt what is loaded from garbage collection: a full one would delay requests by a tenth of a second."""
    gc.collect()
    gc.enable()  # the command line turns it off for the start
    gc.freeze()
    sys.setswitchinterval(_SWITCH_S)


def _listen(host: str, port: int) -> socket.socket:
    """The socket; opened before the bundles are loaded, so that a port in use is reported at once."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_CONNECTIONS)
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}, port {port} ({error}); choose another --host or --port") from None


def _warn_if_public(settings: Settings) -> None:
    if settings.is_local:
        return
    logger.warning(
        "WARNING: on %s other machines can reach this service. Put a proxy with TLS before it.", settings.host
    )
    if settings.writing == "off":
        logger.warning("Without a token (--token-env NAME) nobody can add or delete items.")
    if not settings.known_hosts:
        logger.warning("It accepts any host name; --allow-host NAME restricts it to that one.")


def _reload_on_signal(app: FastAPI) -> None:
    """Reload the bundles on SIGHUP; called in the event loop."""
    running: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.ensure_future(_reload(app.state.bundles))
        running.add(task)
        task.add_done_callback(running.discard)

    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)


async def _reload(bundles: ServedBundles) -> None:
    try:
        names = await bundles.reload()
    except LMM4RecError as error:
        logger.error("the reload failed, the old bundle stays: %s", error)
    else:
        logger.info("reloaded: %s", ", ".join(names))
