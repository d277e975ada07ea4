"""A few pairs tried out: how long a pass with them takes, and what it keeps in memory."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lmm4rec.core.device import choose_device
from lmm4rec.core.progress import quiet
from lmm4rec.core.registry import hyper_parameters
from lmm4rec.core.types import Item
from lmm4rec.distributed import process_group
from lmm4rec.encoders.base import Encoder
from lmm4rec.training.contrastive import Contrastive
from lmm4rec.training.finetuning import fit_pairs, make_objective, resolve_precision, whole_pairs
from lmm4rec.training.image_text_pairs import Augment, PairInputs

_PAIRS = 16  # tried at once, at most
_TRIES = 3  # after one that warms up


@dataclass(frozen=True)
class Trial:
    """What one pair takes, measured on a few."""

    pairs: int  # that the catalog has, unreadable images not yet found out
    prepare_s: float
    train_s: float  # forward and backward, with all losses
    look_s: float  # forward in evaluation
    pixel_bytes: int
    kept_bytes: int  # what a training pass keeps for its backward pass
    fixed_bytes: int  # what it keeps whatever the number of pairs


def defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `fit_pairs` with these options."""
    return {name: parameter.default for name, parameter in hyper_parameters(fit_pairs).items()} | dict(options)


def try_pairs(encoder: Encoder, items: Sequence[Item], options: Mapping[str, Any]) -> Trial:
    """What `fit_pairs` with these options will need for a pair in this process; the encoder keeps its weights.

    Raises:
        TrainingError: as `fit_pairs`, where it would not begin.
    """
    given, device = defaults(options), choose_device(options.get("device", "auto"))
    whole = whole_pairs(encoder, items)
    few = _spread(whole, max(2, min(given["batch_size"], given["chunk"] or _PAIRS, _PAIRS)))
    began = time.perf_counter()
    with quiet():
        pairs = PairInputs(encoder, few)
    prepare_s = (time.perf_counter() - began) / len(few)
    objective = make_objective(
        encoder, pairs, Augment(given["crop"], given["flip"], given["mask"]), vl_weight=given["vl_weight"],
        matching_weight=given["matching_weight"], chunk=given["chunk"],
        precision=resolve_precision(given["precision"], given["device"]),
    )  # fmt: skip
    objective.to(device)
    rows = torch.arange(len(few))
    with _unchanged(encoder), process_group.single_process():
        objective.train()
        with objective.passes.attached(checkpointing=given["checkpointing"]):
            train_s = _seconds(lambda: _step(objective, rows), device)
            whole_bytes, half_bytes = (_kept_bytes(objective, part) for part in (rows, rows[: len(rows) // 2]))
        objective.eval()
        with torch.inference_mode():
            look_s = _seconds(lambda: objective.vectors(rows), device)
    kept = max(whole_bytes - half_bytes, 0) // (len(rows) - len(rows) // 2)
    return Trial(
        pairs=len(whole),
        prepare_s=prepare_s,
        train_s=train_s / len(rows),
        look_s=look_s / len(rows),
        pixel_bytes=pairs.pixels[0].nbytes,
        kept_bytes=kept,
        fixed_bytes=max(whole_bytes - kept * len(rows), 0),
    )


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """So many of the items, from all over the catalog."""
    return list(items[:: max(len(items) // count, 1)][:count])


def _loss(objective: Contrastive, rows: Tensor) -> Tensor:
    return torch.stack(list(objective.losses(rows, torch.Generator()).values())).sum()


def _step(objective: Contrastive, rows: Tensor) -> None:
    weights = [one for one in objective.parameters() if one.requires_grad]
    torch.autograd.grad(_loss(objective, rows), weights, allow_unused=True)


def _kept_bytes(objective: Contrastive, rows: Tensor) -> int:
    """The bytes that a pass keeps for its backward pass, each piece of memory once, the weights left out."""
    weights = {one.untyped_storage().data_ptr() for one in objective.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _loss(objective, rows)
    return sum(kept.values())


@contextmanager
def _unchanged(encoder: nn.Module) -> Iterator[None]:
    """Put single numbers back afterwards: a learned scale beyond its bound is moved there by the first pass."""
    numbers = [weight for weight in encoder.parameters() if weight.numel() == 1]
    before = [number.detach().clone() for number in numbers]
    try:
        yield
    finally:
        with torch.no_grad():
            for number, value in zip(numbers, before, strict=True):
                number.copy_(value)


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    """The shortest of a few tries."""
    taken = []
    for _ in range(1 + _TRIES):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - began)
    return min(taken[1:])
