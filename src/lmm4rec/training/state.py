"""The state of a training run in one safetensors file: whole or not there, and never a pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.files import atomic


@dataclass(frozen=True)
class State:
    """All that a run needs to go on as if it had never stopped."""

    weights: Mapping[str, Tensor]
    best: Mapping[str, Tensor]  # weights of the best evaluation so far; empty before the first
    optimizer: Mapping[str, Any]  # as torch.optim.Optimizer.state_dict
    generator: Tensor
    facts: Mapping[str, Any]  # epoch, history, stopping: plain values


def save(path: Path, state: State) -> None:
    """Write the state; a kill leaves the file before or the file after."""
    tensors = {f"weights.{name}": tensor for name, tensor in state.weights.items()}
    tensors |= {f"best.{name}": tensor for name, tensor in state.best.items()}
    tensors["generator"] = state.generator
    plain: dict[str, dict[str, Any]] = {}
    for index, values in state.optimizer["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{index}.{name}"] = value
            else:
                plain.setdefault(str(index), {})[name] = value
    facts = {**state.facts, "optimizer": {"groups": state.optimizer["param_groups"], "plain": plain}}
    with atomic(path) as beside:
        # clones: weights and best may share storage, which the format refuses
        save_file({name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}, beside, _text(facts))


def _text(facts: Mapping[str, Any]) -> dict[str, str]:
    return {"facts": json.dumps(facts)}


def load(path: Path) -> State:
    """The saved state.

    Raises:
        CheckpointError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            facts = json.loads(file.metadata()["facts"])
    except (OSError, SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); delete it to train from the start") from error
    optimizer = facts.pop("optimizer")
    states: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in optimizer["plain"].items()}
    for name, tensor in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            states.setdefault(int(index), {})[key] = tensor
    return State(
        weights=_part(tensors, "weights."),
        best=_part(tensors, "best."),
        optimizer={"state": states, "param_groups": optimizer["groups"]},
        generator=tensors["generator"].to(torch.uint8),
        facts=facts,
    )


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
