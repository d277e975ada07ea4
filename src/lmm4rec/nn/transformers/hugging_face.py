"""Models in the Hugging Face layout: loaded from a folder, the local cache or the hub, and written to a folder."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import torch

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.core.files import write_json
from lmm4rec.nn.transformers.checkpoints import SETTINGS

Made = TypeVar("Made")


def transformers_library(encoder: str) -> Any:
    """The library; MissingExtraError where it is not installed."""
    return optional("transformers", extra="transformers", purpose=f"the encoder '{encoder}'")


@contextmanager
def loading(checkpoint: str, *, kind: str, expected: str) -> Iterator[str]:
    """The folder or hub name to load from in the block, whose errors become a ConfigError.

    Where the hub cannot be reached it is the folder in the local cache: the library would retry for a minute first.
    """
    try:
        yield checkpoint if Path(checkpoint).exists() or _hub_is_reachable() else _cached_folder(checkpoint)
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"no {kind} under checkpoint '{checkpoint}': give {expected}, or a hub name where there is a network "
            f"({str(error).strip().splitlines()[0]})"
        ) from error


def load_model(model_class: Any, source: str) -> tuple[Any, set[str]]:
    """The model in float32, and the names of the weights that the checkpoint lacks."""
    model, info = model_class.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
    return model, set(info["missing_keys"])


def save_parts(folder: str | Path, parts: Iterable[Any], settings: Mapping[str, object] | None = None) -> None:
    """Write model, tokenizer and preprocessor to a folder, and beside them the settings of the encoder."""
    for part in parts:
        part.save_pretrained(folder)
    if settings is not None:
        write_json(Path(folder) / SETTINGS, settings)


def draw_from_seed(make: Callable[[], Made], seed: int) -> Made:
    """A new model whose weights the library draws from PyTorch's global generator, which is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _hub() -> Any:
    return optional("huggingface_hub", extra="transformers", purpose="a hub name")


def _hub_is_reachable() -> bool:
    """Whether the hub's name resolves; behind a proxy that is not asked."""
    if urllib.request.getproxies():
        return True
    hub = urlsplit(_hub().constants.ENDPOINT)
    try:
        return bool(socket.getaddrinfo(hub.hostname, hub.port or 443))
    except OSError:
        return False


def _cached_folder(name: str) -> str:
    """The folder in the local cache; an error (of value or file) where the name is none, or is not cached."""
    return str(_hub().snapshot_download(name, local_files_only=True))
