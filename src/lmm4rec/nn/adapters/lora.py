"""LoRA: low-rank updates of an encoder's linear layers, by peft."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from lmm4rec.core.errors import CheckpointError, ConfigError, did_you_mean, optional
from lmm4rec.core.files import atomic
from lmm4rec.core.types import Fraction, NonNegativeInt, PositiveFloat, PositiveInt

__all__ = ["add_lora", "load_lora", "lora_weights", "merged", "save_lora"]

_MARK = ".lora_"  # in the names of what peft adds


def add_lora(
    encoder: nn.Module,
    *,
    rank: PositiveInt = 8,
    alpha: PositiveFloat = 16.0,
    dropout: Fraction = 0.0,
    targets: Sequence[str] = (),
    seed: NonNegativeInt = 0,
) -> list[str]:
    """Put LoRA (Hu et al. 2021, arXiv 2106.09685, eq. 3) into an encoder; returns the names of the layers that have it.

    A layer W x becomes W x + (alpha / rank) B A x. B starts as zeros, so at first the vectors are the encoder's own; A
    and B train, all else is frozen. `targets` are words in the names of the layers meant (such as "q_proj", "fc1",
    "attention"); without any, all linear layers are. `dropout` is that of x on its way to A. `seed` is that of A.

    Raises:
        ConfigError: the encoder has no linear layers, or none of a target's name.
        MissingExtraError: peft is not installed.
    """
    peft = _peft()
    names = _chosen(encoder, targets)
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=names, bias="none")
    with torch.random.fork_rng(devices=[]):  # peft draws from the global generator
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(config, encoder)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(_MARK in name)
    return names


@contextmanager
def merged(encoder: nn.Module) -> Iterator[None]:
    """Within it the encoder is of the kind that it was before LoRA, with the updates added to its weights.

    It can be saved then like any other. Afterwards it has LoRA beside the very weights that it had.
    """
    adapted = list(_adapted(encoder))
    for name, layer in adapted:
        parent, _, attribute = name.rpartition(".")
        setattr(encoder.get_submodule(parent), attribute, _plain(layer))
    try:
        yield
    finally:
        for name, layer in adapted:
            parent, _, attribute = name.rpartition(".")
            setattr(encoder.get_submodule(parent), attribute, layer)


def lora_weights(encoder: nn.Module) -> dict[str, Tensor]:
    """What LoRA has added, by name."""
    return {name: parameter for name, parameter in encoder.named_parameters() if _MARK in name}


def save_lora(encoder: nn.Module, path: Path) -> None:
    """Write the LoRA weights alone, as safetensors."""
    weights = {name: parameter.detach().cpu().contiguous() for name, parameter in lora_weights(encoder).items()}
    with atomic(path) as beside:
        save_file(weights, beside)


def load_lora(encoder: nn.Module, path: Path) -> None:
    """Fill the LoRA weights of an encoder from a file of `save_lora`; `add_lora` comes first, with the same arguments.

    Raises:
        CheckpointError: the file cannot be read, or is of LoRA in other layers or of another rank.
    """
    weights = lora_weights(encoder)
    try:
        with safe_open(path, framework="pt") as file:
            given = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    shapes = ({name: tuple(tensor.shape) for name, tensor in one.items()} for one in (weights, given))
    own, others = shapes
    wrong = sorted(name for name in own.keys() | others.keys() if own.get(name) != others.get(name))
    if wrong:
        raise CheckpointError(
            f"{path} is of other LoRA weights: {wrong[0]} is {others.get(wrong[0])} there and {own.get(wrong[0])} here "
            f"({len(wrong)} differ); add LoRA with the rank and targets with which it was trained"
        )
    with torch.no_grad():
        for name, parameter in weights.items():
            parameter.copy_(given[name])


def _chosen(encoder: nn.Module, targets: Sequence[str]) -> list[str]:
    names = list(_linears(encoder))
    if not names:
        raise ConfigError(
            f"{type(encoder).__name__} has no linear layer for LoRA: take an encoder of transformer blocks or another "
            'adapter ("none" trains all its weights)'
        )
    words = {word for name in names for word in name.split(".") if not word.isdigit()}
    for target in targets:
        if target not in words:
            raise ConfigError(
                f"no linear layer of {type(encoder).__name__} has '{target}' in its name."
                f"{did_you_mean(target, words)} Words in their names are: {', '.join(sorted(words))}"
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


def _plain(layer: Any) -> nn.Module:
    """The layer below LoRA, but with the sum of both as its weight."""
    base: nn.Linear = layer.get_base_layer()
    plain = copy.copy(base)
    plain._parameters = dict(base._parameters)  # a shallow copy shares them
    with torch.no_grad():
        updates = [layer.get_delta_weight(name) for name in layer.active_adapters]
        plain.weight = nn.Parameter(base.weight + torch.stack(updates).sum(dim=0), requires_grad=False)
    return plain


def _adapted(encoder: nn.Module) -> Iterator[tuple[str, Any]]:
    layer = optional("peft.tuners.lora", extra="lora", purpose='adapter = "lora"').LoraLayer
    return ((name, module) for name, module in encoder.named_modules() if isinstance(module, layer))


def _peft() -> Any:
    return optional("peft", extra="lora", purpose='adapter = "lora"')
