"""Estimate of fine-tuning: a few pairs are trained on, the encoder keeps its weights."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor

from lmm4rec.core.device import choose_device
from lmm4rec.core.progress import quiet
from lmm4rec.core.registry import hyper_parameters
from lmm4rec.core.types import Item
from lmm4rec.data.catalog import Catalog
from lmm4rec.distributed import process_group
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.prepared_items import PreparedItems
from lmm4rec.encoding.sizing import kept_bytes, resolve_precision
from lmm4rec.experiments.estimate.estimate import MB, Estimate, parameter_counts, seconds_of, weights_bytes
from lmm4rec.nn.transformers.recipe import FinetuningRecipe
from lmm4rec.training.augmentation import Augmentation
from lmm4rec.training.contrastive import Contrastive
from lmm4rec.training.finetuning import contrastive_objective, fit_pairs, held_out_pairs, items_with_both, recipe_of
from lmm4rec.training.recipes import recipe_line

_PAIRS = 16  # in a trial, at most
_TRIES = 3


@dataclass(frozen=True)
class _PairCost:
    """The cost of one pair, measured on a few."""

    pairs: int  # of the catalog, unreadable images included
    prepare_s: float
    train_s: float  # forward and backward, with all losses
    forward_s: float  # in evaluation
    prepared_bytes: int  # of its inputs, as they are kept for training
    pixel_bytes: int  # of its pixels in a batch
    kept_bytes: int  # what a training pass keeps for its backward pass
    fixed_bytes: int  # what it keeps whatever the number of pairs


def estimate_finetuning(encoder: Encoder, catalog: Catalog, options: Mapping[str, Any]) -> Estimate:
    """The estimate of `fit_pairs` with these arguments, the catalog's encoding before and after it included.

    Raises:
        TrainingError: as `fit_pairs`, where it would not begin.
    """
    options = {name: value.default for name, value in hyper_parameters(fit_pairs).items()} | dict(options)
    recipe = recipe_of(encoder, options)
    cost = _measure(encoder, catalog[:], options, recipe)
    held_out = held_out_pairs(cost.pairs, options["valid"])
    trained = cost.pairs - held_out
    full_batches, left = divmod(trained, max(2, options["batch_size"]))
    epochs, again = options["epochs"], 0 < options["chunk"] < options["batch_size"]
    train_s = cost.train_s + (cost.forward_s if again else 0.0)  # chunks pass forward twice
    passes, forward = epochs * trained, (epochs + 2) * held_out + 2 * len(catalog)
    parameters, trainable = parameter_counts(encoder)
    return Estimate(
        f"fine-tuning {type(encoder).__name__}",
        seconds=3 * cost.pairs * cost.prepare_s + passes * train_s + forward * cost.forward_s,
        memory_mb=_memory(encoder, cost, options) / MB,
        passes=passes,
        forward_passes=forward,
        items_per_s=1 / train_s,
        parameters=parameters,
        trainable=trainable,
        disk_mb=weights_bytes(encoder, training=False) / MB,
        details=f"{trained:,} items, {epochs * (full_batches + (left >= 2)):,} steps",
        recipe=recipe_line(options["recipe"], recipe),
    )


def _memory(encoder: Encoder, cost: _PairCost, options: Mapping[str, Any]) -> float:
    """Bytes: weights and optimizer state, prepared images, one pass, and a batch's similarities."""
    batch = min(options["batch_size"], cost.pairs)
    rows = min(batch, options["chunk"] or batch)
    images = min(cost.pairs * cost.prepared_bytes, options["memory_mb"] * MB) + 2 * batch * cost.pixel_bytes
    similarities = 6 * 4 * math.pow(batch, 2)
    weights = weights_bytes(encoder, training=True)
    return weights + images + rows * cost.kept_bytes + cost.fixed_bytes + similarities


def _measure(
    encoder: Encoder, items: Sequence[Item], options: Mapping[str, Any], recipe: FinetuningRecipe
) -> _PairCost:
    """The cost of a pair in this process."""
    device = choose_device(options["device"])
    with_both = items_with_both(encoder, items)
    few = _spread(with_both, max(2, min(options["batch_size"], options["chunk"] or _PAIRS, _PAIRS)))
    began = time.perf_counter()
    with quiet():
        pairs = PreparedItems(encoder, few, memory_mb=options["memory_mb"])
    prepare_s = (time.perf_counter() - began) / len(few)
    objective = contrastive_objective(
        encoder, pairs, Augmentation(options["crop"], options["flip"], options["mask"]), recipe, chunk=options["chunk"],
        precision=resolve_precision(options["precision"], encoder, device),
    )  # fmt: skip
    objective.to(device)
    rows = torch.arange(len(few))
    with process_group.single_process():
        objective.train()
        with objective.runner.checkpointed(enabled=options["checkpointing"]):
            train_s = seconds_of(lambda: _step(objective, rows), device, tries=_TRIES)
            whole_bytes, half_bytes = (
                kept_bytes(objective, partial(_loss, objective, part)) for part in (rows, rows[: len(rows) // 2])
            )
        objective.eval()
        with torch.inference_mode():
            forward_s = seconds_of(lambda: objective.vectors(rows), device, tries=_TRIES)
    kept = max(whole_bytes - half_bytes, 0) // (len(rows) - len(rows) // 2)
    return _PairCost(
        pairs=len(with_both),
        prepare_s=prepare_s,
        train_s=train_s / len(rows),
        forward_s=forward_s / len(rows),
        prepared_bytes=pairs.nbytes // len(few),
        pixel_bytes=cast(Tensor, pairs.of(rows[:1]).pixels).nbytes,
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
