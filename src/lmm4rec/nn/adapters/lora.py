"""LoRA: low-rank updates of an encoder's linear layers, through peft."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lmm4rec.core.errors import CheckpointError, ConfigError, did_you_mean, optional
from lmm4rec.core.tensor_files import read_tensors, save_tensors
from lmm4rec.core.types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt

_LORA = ".lora_"  # in the names of the weights that peft adds


def add_lora(
    encoder: nn.Module,
    *,
    rank: PositiveInt = 8,
    alpha: PositiveFloat = 16.0,
    dropout: Fraction = 0.0,
    targets: Sequence[str] = (),
    seed: NonNegativeInt = 0,
) -> list[str]:
    """Add LoRA (Hu et al. 2021, arXiv 2106.09685, eq. 3) to an encoder; returns the names of the adapted layers.

    A layer W x becomes W x + (alpha / rank) B A x. B starts as zeros, so at first the vectors are the encoder's own; A
    and B are trained, all else is frozen. `targets` are parts of the names of the layers to adapt (such as "q_proj",
    "fc1", "attention"); without any, all linear layers are. `dropout` is applied to the input of A, `seed` draws A.

    Raises:
        ConfigError: the encoder has no linear layers, or none with a target in its name.
        MissingExtraError: peft is not installed.
    """
    peft = _peft()
    names = _target_layers(encoder, targets)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names, bias="none")
    with torch.random.fork_rng(devices=[]):  # peft draws from the global generator
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, encoder)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(_LORA in name)
    return names


@contextmanager
def merged(encoder: nn.Module) -> Iterator[None]:
    """A context in which the encoder is without LoRA, the updates added to its weights.

    It can be saved then like any other. Afterwards it has LoRA and its earlier weights again.
    """
    adapted = list(_adapted(encoder))
    for name, layer in adapted:
        parent, _, attribute = name.rpartition(".")
        setattr(encoder.get_submodule(parent), attribute, _merged_layer(layer))
    try:
        yield
    finally:
        for name, layer in adapted:
            parent, _, attribute = name.rpartition(".")
            setattr(encoder.get_submodule(parent), attribute, layer)


def lora_weights(encoder: nn.Module) -> dict[str, Tensor]:
    """The weights of LoRA, by name."""
    return {name: parameter for name, parameter in encoder.named_parameters() if _LORA in name}


def save_lora(encoder: nn.Module, path: Path) -> None:
    """Write the LoRA weights alone, as safetensors."""
    save_tensors(path, lora_weights(encoder))


def load_lora(encoder: nn.Module, path: Path) -> None:
    """Load the LoRA weights of an encoder from a file of `save_lora`, after `add_lora` with the same arguments.

    Raises:
        CheckpointError: the file cannot be read, or is of other layers or another rank.
    """
    weights = lora_weights(encoder)
    loaded, _ = read_tensors(path)
    shapes = ({name: tuple(tensor.shape) for name, tensor in one.items()} for one in (weights, loaded))
    own, others = shapes
    wrong = sorted(name for name in own.keys() | others.keys() if own.get(name) != others.get(name))
    if wrong:
        raise CheckpointError(
            f"{path} is of other LoRA weights: {wrong[0]} is {others.get(wrong[0])} there and {own.get(wrong[0])} here "
            f"({len(wrong)} differ); add LoRA with the rank and targets with which it was trained"
        )
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(loaded[name])


def _target_layers(encoder: nn.Module, targets: Sequence[str]) -> list[str]:
    names = list(_linears(encoder))
    if not names:
        raise ConfigError(
            f"{type(encoder).__name__} has no linear layer for LoRA: use an encoder of transformer blocks or another "
            'adapter ("none" trains all its weights)'
        )
    known = {part for name in names for part in name.split(".") if not part.isdigit()}
    for target in targets:
        if target not in known:
            raise ConfigError(
                f"no linear layer of {type(encoder).__name__} has '{target}' in its name."
                f"{did_you_mean(target, known)} Parts of their names are: {', '.join(sorted(known))}"
            )
    return [name for name in names if not targets or set(targets) & set(name.split("."))]


def _linears(encoder: nn.Module) -> Iterator[str]:
    """The linear layers that are called; PyTorch's own attention uses the weights of its without calling them."""
    uncalled = {
        id(part) for whole in encoder.modules() if isinstance(whole, nn.MultiheadAttention) for part in whole.children()
    }
    for name, module in encoder.named_modules():
        if isinstance(module, nn.Linear) and id(module) not in uncalled:
            yield name


def _merged_layer(layer: Any) -> nn.Module:
    """The layer without LoRA, the update added to its weight."""
    base: nn.Linear = layer.get_base_layer()
    merged_layer = copy.copy(base)
    merged_layer._parameters = dict(base._parameters)  # a shallow copy shares them
    with torch.no_grad():
        updates = [layer.get_delta_weight(name) for name in layer.active_adapters]
        merged_layer.weight = nn.Parameter(base.weight + torch.stack(updates).sum(dim=0), requires_grad=False)
    return merged_layer


def _adapted(encoder: nn.Module) -> Iterator[tuple[str, Any]]:
    layer = optional("peft.tuners.lora", extra="lora", purpose='adapter = "lora"').LoraLayer
    return ((name, module) for name, module in encoder.named_modules() if isinstance(module, layer))


def _peft() -> Any:
    return optional("peft", extra="lora", purpose='adapter = "lora"')
