"""Models in the Hugging Face layout: loaded from a folder, the local cache or the hub, and written to a folder."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from lmm4rec.core.errors import ConfigError, LMM4RecError, optional
from lmm4rec.core.files import read_json, write_json
from lmm4rec.nn.transformers.activations import use_quick_gelu
from lmm4rec.nn.transformers.checkpoints import SETTINGS, SUFFIXES, check_weights

Model = TypeVar("Model")
_PROBE_TIMEOUT_S = 5


def transformers_library(encoder: str) -> Any:
    """The library; MissingExtraError where it is not installed."""
    return optional("transformers", extra="transformers", purpose=f"the encoder '{encoder}'")


@contextmanager
def loading(checkpoint: str, *, kind: str, expected: str) -> Iterator[str]:
    """The folder or hub name to load from in the block, whose errors become a ConfigError.

    Where the hub cannot be reached it is the folder in the local cache: the library would retry for a minute first.

    Raises:
        ConfigError: the checkpoint is neither a folder nor a hub name, the hub is out of reach, or what is there is no
            checkpoint of this kind (`expected` says what would be), or one that needs code of its own.
    """
    try:
        source = checkpoint if Path(checkpoint).is_dir() else _hub_source(checkpoint)
        _refuse_remote_code(checkpoint, source)
        yield source
    except LMM4RecError:
        raise
    except (OSError, ValueError, ImportError) as error:
        raise ConfigError(
            f"no {kind} under checkpoint '{checkpoint}': give {expected}, or a hub name where there is a network "
            f"({str(error).strip().splitlines()[0]})"
        ) from error


def remote_code(source: str) -> str:
    """The code of its own that a checkpoint's config.json names (`auto_map`); empty where it names none."""
    code = _config(source).get("auto_map") or {}
    return str(code.get("AutoModel", ", ".join(map(str, code.values()))))


def check_loaded(checkpoint: str, source: str, missing: Collection[str]) -> None:
    """Refuse a checkpoint that lacks weights, as `check_weights`; where it names code of its own, that is said.

    Raises:
        ConfigError: a weight is missing.
    """
    if missing and (code := remote_code(source)):
        raise ConfigError(
            f"checkpoint '{checkpoint}' lacks {len(missing)} weights of the class that transformers has for it: it "
            f"needs remote code ({code}), which lmm4rec never runs"
        )
    check_weights(checkpoint, missing)


def _refuse_remote_code(checkpoint: str, source: str) -> None:
    """Raise ConfigError where the library has no class for a checkpoint: it would ask whether to run foreign code."""
    auto = optional("transformers.models.auto", extra="transformers", purpose=f"the checkpoint '{checkpoint}'")
    kind, code = _config(source).get("model_type"), remote_code(source)
    if code and kind not in auto.CONFIG_MAPPING:
        raise ConfigError(
            f"checkpoint '{checkpoint}' is a '{kind}', for which transformers has no class: it needs remote code "
            f"({code}), which lmm4rec never runs; give a checkpoint of an architecture that transformers has"
        )


def _config(source: str) -> Mapping[str, Any]:
    """The config.json of a folder, or of a hub name in the local cache; empty where there is none."""
    path: Path | str | None = Path(source) / "config.json"
    if not Path(source).exists():
        try:
            path = _hub().try_to_load_from_cache(source, "config.json")
        except ValueError:  # no hub name; the library says so
            return {}
    return read_json(Path(path)) if isinstance(path, Path | str) and Path(path).exists() else {}


@contextmanager
def without_report(transformers: Any) -> Iterator[None]:
    """A context in which the library logs errors alone, where weights that are left out are no surprise."""
    level = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(level)


def load_model(model_class: Any, source: str) -> tuple[Any, set[str]]:
    """The model in float32, and the names of the weights that the checkpoint lacks."""
    model, info = model_class.from_pretrained(source, dtype=torch.float32, output_loading_info=True)
    use_quick_gelu(model)
    return model, set(info["missing_keys"])


def save_parts(folder: str | Path, parts: Iterable[Any], settings: Mapping[str, object] | None = None) -> None:
    """Write model, tokenizer and preprocessor to a folder, and beside them the settings of the encoder."""
    for part in parts:
        part.save_pretrained(folder)
    if settings is not None:
        write_json(Path(folder) / SETTINGS, settings)


def draw_from_seed(make: Callable[[], Model], seed: int) -> Model:
    """A new model whose weights the library draws from PyTorch's global generator, which is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def _hub_source(name: str) -> str:
    """A hub name, or its folder in the local cache where the hub cannot be reached."""
    _check_name(name)
    problem = _connection_problem()
    if not problem:
        return name
    try:
        return str(_hub().snapshot_download(name, local_files_only=True))
    except OSError as error:
        raise OSError(f"it is not in the local cache, and {problem}") from error


def _check_name(name: str) -> None:
    if Path(name).exists():
        raise OSError("that is a file")
    try:
        _hub(".utils").validate_repo_id(name)
    except ValueError as error:
        raise OSError("there is no such folder, and a hub name reads owner/name") from error
    if Path(name).suffix in SUFFIXES:
        raise OSError("there is no such file")


def _connection_problem() -> str:
    """The reason why the hub cannot be reached; empty where it answers."""
    constants = _hub(".constants")
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=_PROBE_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        return ""
    except OSError as error:
        reason = getattr(error, "reason", error)
        if isinstance(reason, ssl.SSLError):  # the library may know other certificates
            return ""
        return f"{constants.ENDPOINT} cannot be reached: {reason}"
    return ""


def _hub(part: str = "") -> Any:
    return optional(f"huggingface_hub{part}", extra="transformers", purpose="a hub name")
