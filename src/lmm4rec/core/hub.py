"""Folders on the Hugging Face hub: uploaded as a repository, or downloaded by the name `owner/name`."""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmm4rec.core.errors import CheckpointError, ConfigError, optional

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_OTHER_FORMATS = ["*.h5", "*.msgpack", "*.onnx", "*.ot", "*.tflite", "*.mlmodel"]
_HEAD = "---\nlibrary_name: lmm4rec\ntags:\n- recommendation\n- lmm4rec\n---\n\n"


def local_folder(source: str | Path) -> Path:
    """The folder itself, or the downloaded repository where it is `owner/name` of the hub and no path here.

    HF_ENDPOINT names another hub, HF_TOKEN opens private repositories, HF_HUB_OFFLINE reads what was downloaded before.

    Raises:
        CheckpointError: there is neither such a folder nor such a repository, or the hub cannot be reached.
    """
    path, name = Path(source), str(source)
    if path.exists() or not _NAME.fullmatch(name) or path.parent.exists():
        return path
    if importlib.util.find_spec("huggingface_hub") is None:  # more likely a folder that is misspelled
        return path
    with _errors(f"there is no folder {name}, and as a repository of the hub"):
        found = _library().snapshot_download(name, endpoint=_endpoint(), ignore_patterns=_OTHER_FORMATS)
    return Path(found)


def push_folder(folder: Path, repository: str, *, token: str | None, private: bool) -> str:
    """Upload a folder as a repository `owner/name`, which is created where it is not there; returns its address.

    Raises:
        ConfigError: the name is none, there is no token, or the hub refuses it or cannot be reached.
        MissingExtraError: huggingface_hub is not installed.
    """
    library = _library()
    if not _NAME.fullmatch(repository):
        raise ConfigError(f"'{repository}' is no name of a repository; expected owner/name")
    token = token or library.get_token()
    if token is None:
        raise ConfigError("there is no token for the hub: pass token=…, set HF_TOKEN, or call `hf auth login`")
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else f"# {repository}\n"
    card.write_text(text if text.startswith("---") else _HEAD + text, encoding="utf-8")
    api = library.HfApi(endpoint=_endpoint(), token=token)
    with _errors(f"pushing to {repository}:", kind=ConfigError):
        url = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Upload by lmm4rec")
    return str(url)


@contextmanager
def _errors(before: str, kind: type[CheckpointError | ConfigError] = CheckpointError) -> Iterator[None]:
    """A context whose errors of the hub become one line."""
    errors = optional("huggingface_hub.errors", extra="hub", purpose="the hub")
    try:
        yield
    except errors.RepositoryNotFoundError as error:
        raise kind(f"{before} it is not there, or the token (HF_TOKEN) may not read or write it") from error
    except errors.LocalEntryNotFoundError as error:
        raise kind(f"{before} it was not downloaded before, and the hub cannot be reached") from error
    except (errors.HTTPError, OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise kind(f"{before} {reason}") from error


def _library() -> Any:
    return optional("huggingface_hub", extra="hub", purpose="a name of the hub")


def _endpoint() -> str | None:
    return os.environ.get("HF_ENDPOINT") or None
