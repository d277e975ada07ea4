"""What `lmm4rec serve` does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast, get_args

from rich.console import Console

from lmm4rec.core.errors import ConfigError, optional


def serve_runs(
    runs: Sequence[Path], *, host: str, port: int, token_env: str | None, hosts: Sequence[str], index: str
) -> None:
    """`lmm4rec serve`."""
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        optional(module, extra="serve", purpose="lmm4rec serve")
    from lmm4rec.serving.http.server import serve
    from lmm4rec.serving.http.settings import IndexKind, Settings

    if index not in get_args(IndexKind):
        raise ConfigError(f"--index is {' or '.join(get_args(IndexKind))}, got '{index}'")
    settings = Settings(host=host, port=port, token=_token(token_env), hosts=tuple(hosts), index=cast(IndexKind, index))
    console = Console(highlight=False)
    serve(runs, settings, started=lambda url: console.print(f"Open [bold]{url}[/]  (Ctrl+C stops)", soft_wrap=True))


def _token(name: str | None) -> str | None:
    """The token in the environment variable of this name."""
    if name is None:
        return None
    token = os.environ.get(name, "")
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"the environment variable {name} has to hold the token, {_SHORTEST} ASCII characters or more, no spaces; "
            f'export {name}="$(openssl rand -hex 24)" makes one'
        )
    return token


_SHORTEST = 16
