"""Checkpoint files: found, read without running code in them, loaded into modules, and written."""

from __future__ import annotations

import argparse
import hashlib
import logging
import pickle
import re
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.core.files import atomic, read_json, write_json
from lmm4rec.core.tensor_files import read_tensors, save_tensors

Model = TypeVar("Model", bound=nn.Module)

State: TypeAlias = dict[str, Tensor]

Renames: TypeAlias = Sequence[tuple[str, str]]
"""Patterns and their replacements, applied in order: from a name here to the official name."""

WEIGHTS, SETTINGS = "model.safetensors", "lmm4rec.json"
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_WRAPPERS = ("state_dict", "model_state_dict", "module", "model")
_PREFIXES = re.compile(r"^(?:(?:module|model)\.)+")
_LISTED = 60


def weights_file(checkpoint: str, *, kind: str) -> Path:
    """The file of weights of a checkpoint: the file itself, or the one in a folder.

    Raises:
        ConfigError: there is none, or a folder has several.
    """
    path = Path(checkpoint).expanduser()
    found = [path] if path.is_file() else []
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES)
        found = [file for file in found if file.name == WEIGHTS] or found
    if len(found) != 1:
        there = f"; there are {', '.join(file.name for file in found)}" if found else ""
        raise ConfigError(
            f"no {kind} under checkpoint '{checkpoint}': give an official file ({', '.join(SUFFIXES)}) or a folder "
            f"written by save_pretrained{there}"
        )
    return found[0]


def read_state(path: Path) -> State:
    """The tensors in a file by name, floats as float32.

    Names are without what wrappers of models put into them: "module." and "model." before, "_orig_mod." anywhere.

    Raises:
        ConfigError: the file cannot be read, or holds no tensors.
    """
    content = _open(path)
    while inner := [wrapper for wrapper in _WRAPPERS if isinstance(content.get(wrapper), Mapping)]:
        content = content[inner[0]]
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    state = {_PREFIXES.sub("", name.replace("_orig_mod.", "")): value for name, value in tensors.items()}
    if len(state) < len(tensors):
        raise ConfigError(
            f"checkpoint '{path}' holds several models: names such as '{min(tensors)}' occur with and without a "
            "prefix. Save the state dict of one of them"
        )
    if not state:
        raise ConfigError(
            f"checkpoint '{path}' holds no tensors; its keys are {', '.join(map(str, content)) or 'none'}"
        )
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _open(path: Path) -> Mapping[str, Any]:
    try:
        if path.suffix == ".safetensors":
            return read_tensors(path)[0]
        # training scripts keep their parsed arguments, a plain Namespace, beside the weights
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"checkpoint '{path}' holds more than weights, or is not a torch file; it is not read, since that "
            "could run code. Save its state dict alone, best as .safetensors"
        ) from error
    except (CheckpointError, OSError, RuntimeError, EOFError, LookupError, ValueError) as error:
        raise ConfigError(f"checkpoint '{path}' is damaged or not a file of weights ({error})") from error
    if not isinstance(content, Mapping):
        raise ConfigError(f"checkpoint '{path}' holds {type(content).__name__}, expected a mapping from name to tensor")
    return content


def official_names(module: nn.Module, renames: Renames) -> dict[str, str]:
    """The official name of each of the module's tensors, by the name here."""
    names = {}
    for name in module.state_dict():
        official = name
        for pattern, replacement in renames:
            official = re.sub(pattern, replacement, official)
        names[name] = official
    return names


def count_layers(state: Iterable[str], pattern: str) -> int:
    """The number of layers: one more than the highest number in the names, the pattern's group."""
    found = (re.match(pattern, name) for name in state)
    return max((int(match[1]) + 1 for match in found if match), default=0)


def check_names(
    state: Mapping[str, Tensor], expected: Iterable[str], *, checkpoint: str, kind: str, advice: str = ""
) -> None:
    """Refuse a checkpoint that lacks weights.

    Raises:
        ConfigError: weights are missing; the message lists them.
    """
    missing = sorted(set(expected) - state.keys())
    if missing:
        listed = ", ".join(missing[:_LISTED]) + (
            f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        )
        raise ConfigError(
            f"checkpoint '{checkpoint}' lacks {len(missing)} of the weights of {kind}: {listed}. It holds: "
            f"{_summary(state)}{advice}"
        )


def load_state(module: nn.Module, state: Mapping[str, Tensor], renames: Renames, *, checkpoint: str, kind: str) -> None:
    """Load the tensors into the module, which may be on the meta device; unused ones are logged.

    Raises:
        ConfigError: weights are missing, or their shapes differ from those of the module.
    """
    names, shapes = official_names(module, renames), module.state_dict()
    check_names(state, names.values(), checkpoint=checkpoint, kind=kind)
    wrong = [
        f"{official} is {list(state[official].shape)}, expected {list(shapes[name].shape)}"
        for name, official in names.items()
        if state[official].shape != shapes[name].shape
    ]
    if wrong:
        raise ConfigError(
            f"checkpoint '{checkpoint}' does not fit {kind} as its other weights and the parameters describe it: "
            f"{'; '.join(wrong[:_LISTED])}"
        )
    extra = {name: tensor for name, tensor in state.items() if name not in set(names.values())}
    if extra:
        logging.getLogger(__name__).warning(
            "checkpoint '%s': ignored %d tensors that %s does not use: %s",
            checkpoint, len(extra), kind, _summary(extra),
        )  # fmt: skip
    module.load_state_dict({name: state[official].contiguous() for name, official in names.items()}, assign=True)


def _summary(state: Iterable[str]) -> str:
    """The names; where they are many, their first parts with the count of each."""
    names = sorted(state)
    if len(names) > 12:
        names = [f"{part}.* ({count})" for part, count in Counter(name.split(".")[0] for name in names).items()]
    return ", ".join(names) or "nothing"


def read_settings(weights: Path) -> dict[str, Any]:
    """The settings that `save_folder` wrote beside the weights; empty where it did not write them."""
    file = weights.with_name(SETTINGS)
    return read_json(file) if weights.name == WEIGHTS and file.exists() else {}


def read_options(folder: str | Path, names: Sequence[str]) -> dict[str, Any]:
    """The values of the named parameters that a saved encoder's settings contain."""
    saved = read_json(Path(folder) / SETTINGS) if names else {}
    return {name: saved[name] for name in names if name in saved}


def digest(file: Path | None) -> str:
    """The SHA-256 of a file; empty without one."""
    return hashlib.sha256(file.read_bytes()).hexdigest() if file else ""


def save_folder(
    folder: Path, module: nn.Module, renames: Renames, settings: Mapping[str, Any], files: Mapping[str, Path | None]
) -> None:
    """Write weights under their official names, settings, and copies of the files under the names given."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in files.items():
        if file is not None and file != folder / name:
            with atomic(folder / name) as beside:
                shutil.copyfile(file, beside)
    state = module.state_dict()
    tensors = {official: state[name].cpu().contiguous() for name, official in official_names(module, renames).items()}
    save_tensors(folder / WEIGHTS, tensors)
    write_json(folder / SETTINGS, settings)


def draw_model(make: Callable[[], Model], seed: int) -> Model:
    """A new module with initial weights drawn from the seed."""
    with torch.device("meta"):
        model = make()
    draw_weights(model, torch.Generator().manual_seed(seed))
    return model


def draw_weights(module: nn.Module, generator: torch.Generator) -> None:
    """Draw the initial weights, on the CPU, of a module on the meta device.

    Linear maps are Xavier-normal, tables and tokens normal with variance 1 / dim, norms 1, layer scales 0.1, biases 0,
    and a log inverse temperature is log(1 / 0.07).
    """
    for part in module.modules():
        for name, weight in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(torch.empty_like(weight, device="cpu")))
    tables = {id(table.weight) for table in module.modules() if isinstance(table, nn.Embedding)}
    with torch.no_grad():
        for name, weight in module.named_parameters():
            last = name.rsplit(".", 1)[-1]
            if weight.ndim == 0:
                weight.fill_(2.6592600369327783)
            elif weight.ndim == 1 or "bias" in last:
                weight.fill_(1.0 if last == "weight" else 0.1 if last.startswith("gamma") else 0.0)
            elif id(weight) in tables or last.endswith(("token", "positions")):
                nn.init.normal_(weight, std=weight.shape[-1] ** -0.5, generator=generator)
            else:
                nn.init.xavier_normal_(weight, generator=generator)


def check_weights(checkpoint: str, missing: Collection[str]) -> None:
    """Refuse a checkpoint that lacks weights, which its library would draw at random with only a warning.

    Raises:
        ConfigError: a weight is missing.
    """
    if missing:
        names = ", ".join(sorted(missing)[:40]) + (", ..." if len(missing) > 40 else "")
        raise ConfigError(
            f"checkpoint '{checkpoint}' lacks {len(missing)} of the encoder's weights ({names}); give a checkpoint of "
            "the whole model"
        )
