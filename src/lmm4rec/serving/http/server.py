"""The server process: uvicorn, with a graceful stop, and a reload on SIGHUP."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

import uvicorn
from fastapi import FastAPI

from lmm4rec.core.errors import ConfigError, LMM4RecError
from lmm4rec.serving.http.app import make_app
from lmm4rec.serving.http.bundles import ServedBundles
from lmm4rec.serving.http.header_limits import HeaderLimits
from lmm4rec.serving.http.settings import Settings

logger = logging.getLogger(__name__)
_STOP_S = 15  # for requests in progress when the service stops
_CONNECTIONS = 1024  # more are refused


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


def serve(folders: Sequence[Path], settings: Settings, *, started: Callable[[str], None] = lambda url: None) -> None:
    """Serve the bundles of these run folders until a signal stops it.

    SIGTERM and SIGINT stop it once the requests in progress are answered; SIGHUP reloads the bundles. `started` is
    called with the address just before requests are accepted.

    Raises:
        ConfigError: the address or the port cannot be used.
        CheckpointError: a folder has no bundle, or its added items cannot be read.
    """
    _warn_if_public(settings)
    with _listen(settings.host, settings.port) as listening:
        app = make_app(folders, settings)
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, server_header=False, limit_concurrency=_CONNECTIONS,
            http=HeaderLimits, timeout_keep_alive=20, timeout_graceful_shutdown=_STOP_S, lifespan="on",
        )  # fmt: skip
        gc.collect()
        gc.enable()  # the command line turns it off for the start
        gc.freeze()  # a full collection over the bundles' ids would delay requests by a tenth of a second
        started(f"http://{'localhost' if settings.is_local else settings.host}:{listening.getsockname()[1]}/")
        _Server(config, app).run([listening])


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
