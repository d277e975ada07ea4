"""Fine-tuning of an encoder on a catalog's own pairs of image and text."""

from __future__ import annotations

import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from jaxtyping import Int
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.device import choose_device
from lmm4rec.core.errors import TrainingError
from lmm4rec.core.registry import hyper_parameters
from lmm4rec.core.types import Fraction, Item, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from lmm4rec.distributed import process_group
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.prepared_items import PreparedItems
from lmm4rec.encoding.runner import EncoderRunner
from lmm4rec.encoding.shared_space import ManySpaces, shared_spaces
from lmm4rec.encoding.sizing import Precision, ResolvedPrecision, resolve_precision
from lmm4rec.evaluation.alignment import retrieval_recall
from lmm4rec.nn.transformers.multiway import drop_path_set
from lmm4rec.nn.transformers.recipe import FinetuningRecipe, LossWeight
from lmm4rec.training.augmentation import Augmentation
from lmm4rec.training.contrastive import Contrastive
from lmm4rec.training.history import History
from lmm4rec.training.parameter_groups import grouped, layer_factors
from lmm4rec.training.recipes import RecipeName, resolve_recipe, schedule_of
from lmm4rec.training.sampler import RowSampler
from lmm4rec.training.trainer import Trainer

_METRIC = "retrieval_recall@5"
_MAX_VALIDATION_BATCH = 256  # pairs in a pass without gradient
_MIN_PAIRS = 4  # two to train on, two held out


@dataclass
class FinetuningHistory(History):
    """The history of fine-tuning, with the retrieval recall of held-out pairs before and after."""

    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)


def fit_pairs(
    encoder: Encoder,
    items: Sequence[Item],
    state_file: Path | None = None,
    *,
    recipe: Annotated[
        RecipeName, Doc("Source of left-out keys: this package, the encoder's authors, or VLMo's pre-training.")
    ] = "plain",
    epochs: Annotated[PositiveInt, Doc("Passes over the pairs, at most.")] = 20,
    batch_size: Annotated[PositiveInt, Doc("Pairs in a step, each the others' negative.")] = 128,
    learning_rate: Annotated[
        PositiveFloat | None, Doc("Learning rate at its height; left out: the recipe's (plain 1e-5).")
    ] = None,
    weight_decay: Annotated[
        NonNegativeFloat | None, Doc("Weight decay of all but biases, norms, positions; left out: the recipe's.")
    ] = None,
    warmup: Annotated[
        Fraction | None, Doc("Share of all steps in which the learning rate rises; left out: the recipe's.")
    ] = None,
    layer_decay: Annotated[
        PositiveFloat | None, Doc("Factor of the learning rate from a block to the one below; left out: the recipe's.")
    ] = None,
    drop_path: Annotated[
        Fraction | None, Doc("Largest probability of stochastic depth; left out: the encoder's, else the recipe's.")
    ] = None,
    patience: Annotated[NonNegativeInt, Doc("Epochs without a new best before training stops; 0: never.")] = 5,
    valid: Annotated[Fraction, Doc("Share of the pairs that is held out to choose the epoch.")] = 0.1,
    crop: Annotated[Fraction, Doc("Largest share of an image's area that is cut away at random.")] = 0.0,
    flip: Annotated[bool, Doc("Mirror half of the images.")] = False,
    mask: Annotated[Fraction, Doc("Probability of each token to be left out.")] = 0.0,
    vl_weight: Annotated[
        LossWeight, Doc("Weight of the loss in a second joint space; auto: the recipe's (plain: 1 if there is one).")
    ] = "auto",
    matching_weight: Annotated[
        LossWeight, Doc("Weight of image-text matching; auto: the recipe's (plain: 1 if there is a head).")
    ] = "auto",
    chunk: Annotated[NonNegativeInt, Doc("Pairs whose activations are kept, to save memory; 0: all.")] = 0,
    checkpointing: Annotated[bool, Doc("Keep only states between blocks: less memory, more time.")] = False,
    precision: Annotated[Precision, Doc("Precision of the encoder; auto: bfloat16 where it is native.")] = "auto",
    memory_mb: Annotated[PositiveInt, Doc("Prepared images of more MiB than this lie in a temporary file.")] = 4096,
    seed: Annotated[NonNegativeInt, Doc("Seed of the held-out pairs, the order and the noise.")] = 0,
    device: Annotated[str, Doc("Where to compute: auto, cpu, cuda or cuda:1.")] = "auto",
) -> FinetuningHistory:
    """The history of fine-tuning on pairs of image and text, which leaves the best weights in the encoder.

    Symmetric contrastive loss with learned temperature, AdamW, linear warm-up, then a cosine (or the schedule of the
    recipe). The best epoch is that with the highest retrieval_recall@5 of the held-out pairs. Items without image or
    text are left out. The state of training is saved in `state_file`, from which training resumes.

    Raises:
        TrainingError: the encoder has no shared space or no such recipe, or there are too few whole pairs.
    """
    _space_names(encoder)  # raises before the longer checks below
    chosen = resolve_recipe(encoder, {
        "recipe": recipe, "batch_size": batch_size, "learning_rate": learning_rate, "weight_decay": weight_decay,
        "warmup": warmup, "layer_decay": layer_decay, "drop_path": drop_path, "vl_weight": vl_weight,
        "matching_weight": matching_weight,
    })  # fmt: skip
    pairs = PreparedItems(encoder, items_with_both(encoder, items), memory_mb=memory_mb)
    held_out, training = _split_pairs(pairs.complete(), len(items), valid=valid, seed=seed)
    objective = contrastive_objective(
        encoder, pairs, Augmentation(crop, flip, mask), chosen, chunk=chunk,
        precision=resolve_precision(precision, encoder, choose_device(device)),
    )  # fmt: skip

    batch = min(chunk or _MAX_VALIDATION_BATCH, _MAX_VALIDATION_BATCH)
    validate = functools.partial(_retrieval_recall, objective, torch.split(held_out, batch))
    trainer = Trainer(
        epochs=epochs, optimizer="adamw", clip_norm=chosen.clip_norm, metric=_METRIC, patience=patience, seed=seed,
        device=device,
    )  # fmt: skip
    batches = RowSampler(training, batch_size=batch_size)
    objective.to(trainer.device).eval()
    before = validate()
    with objective.runner.checkpointed(enabled=checkpointing), drop_path_set(encoder, chosen.drop_path):
        history = trainer.fit(objective, batches, validate, state_file=state_file, description="fine-tuning")
    finetuned = FinetuningHistory(**vars(history), before=before, after=validate())
    if process_group.is_first():
        _log_summary(finetuned)
    return finetuned


def _retrieval_recall(objective: Contrastive, batches: Sequence[Int[Tensor, " pairs"]]) -> Mapping[str, float]:
    """The retrieval recall among the pairs of all batches, the same in every process."""
    with torch.inference_mode():
        vectors = [objective.vectors(rows) for rows in batches]
    image, text = (torch.cat(side) for side in zip(*vectors, strict=True))
    return process_group.broadcast(retrieval_recall(image, text))


def recipe_of(encoder: Encoder, options: Mapping[str, Any]) -> FinetuningRecipe:
    """The recipe of `fit_pairs` with these arguments.

    Raises:
        TrainingError: as `resolve_recipe`.
    """
    defaults = {name: value.default for name, value in hyper_parameters(fit_pairs).items()}
    return resolve_recipe(encoder, defaults | dict(options))


def contrastive_objective(
    encoder: Encoder,
    pairs: PreparedItems,
    augmentation: Augmentation,
    recipe: FinetuningRecipe,
    *,
    chunk: int,
    precision: ResolvedPrecision,
) -> Contrastive:
    """The objective of `fit_pairs`, with a recipe of which all numbers are known.

    Raises:
        TrainingError: the encoder lacks the heads for a requested weight, or an order of its layers.
    """
    weights = loss_weights(
        encoder, main_weight=recipe.main_weight, vl_weight=recipe.vl_weight, matching_weight=recipe.matching_weight
    )
    matching = weights.pop("matching", 0.0)
    runner = EncoderRunner(encoder, precision=precision, chunk=chunk)
    factors = layer_factors(encoder, recipe.layer_decay)
    return Contrastive(
        encoder, pairs, runner, augmentation, weights=weights, matching_weight=matching,
        bounds_temperature=recipe.bounds_temperature,
        groups=grouped("", encoder.named_parameters(), schedule_of(recipe), factors=factors),
    )  # fmt: skip


def items_with_both(encoder: Encoder, items: Sequence[Item]) -> list[Item]:
    """The items that have an image and a text for the encoder to read.

    Raises:
        TrainingError: the encoder has no shared space, or there are too few such items.
    """
    _space_names(encoder)
    with_image = [item for item in items if item.image is not None]
    with_both = [item for item in with_image if encoder.item_text(item)]
    if len(with_both) < _MIN_PAIRS:
        with_text = sum(bool(encoder.item_text(item)) for item in items)
        raise TrainingError(
            f"{_too_few(len(with_both), len(items))}; {len(with_image)} have an image and {with_text} have text in "
            f"'{encoder.text}'"
        )
    return with_both


def loss_weights(
    encoder: Encoder, *, main_weight: float = 1.0, vl_weight: LossWeight = "auto", matching_weight: LossWeight = "auto"
) -> dict[str, float]:
    """The weight of each loss: of every shared space, the main one's first, and of "matching".

    Raises:
        TrainingError: the encoder has no shared space, or lacks the heads for a requested weight.
    """
    main, *others = _space_names(encoder)
    weights = {main: main_weight}
    name = type(encoder).__name__
    if not others and vl_weight not in ("auto", 0):
        raise TrainingError(
            f"vl_weight = {vl_weight}, but {name} has no second shared space; VLMo has one where the checkpoint holds "
            'both pairs of heads. Set vl_weight = 0.0 or "auto"'
        )
    for space in others if vl_weight else ():
        weights[space] = 1.0 if vl_weight == "auto" else vl_weight
    can_match = isinstance(encoder, ManySpaces) and encoder.matches
    if not can_match and matching_weight not in ("auto", 0):
        raise TrainingError(
            f"matching_weight = {matching_weight}, but this {name} has no head that classifies whether image and "
            'text match; pre-trained VLMo has one. Set matching_weight = 0.0 or "auto"'
        )
    if can_match and matching_weight:
        weights["matching"] = 1.0 if matching_weight == "auto" else matching_weight
    return weights


def _space_names(encoder: Encoder) -> list[str]:
    names = [space.name for space in shared_spaces(encoder)]
    if not names:
        learned = isinstance(getattr(encoder, "logit_scale", None), Tensor)
        advice = (
            'set outputs = "image+text"' if learned else "take an encoder that has both in one space, such as 'clip'"
        )
        raise TrainingError(
            f"{type(encoder).__name__} gives {', '.join(encoder.dims)} and cannot be fine-tuned on pairs of image and "
            f"text: {advice}"
        )
    return names


def _split_pairs(
    pairs: Int[Tensor, " pairs"], items: int, *, valid: float, seed: int
) -> tuple[Int[Tensor, " held_out"], Int[Tensor, " training"]]:
    """The rows of the held-out pairs and of those to train on."""
    order = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(seed))]
    if len(order) < _MIN_PAIRS:
        raise TrainingError(f"{_too_few(len(order), items)}; the images of others cannot be read")
    held_out = held_out_pairs(len(order), valid)
    return order[:held_out], order[held_out:]


def held_out_pairs(pairs: int, valid: float) -> int:
    """The number of held-out pairs: the share, but at least two on either side."""
    return min(max(round(valid * pairs), 2), pairs - 2)


def _too_few(pairs: int, items: int) -> str:
    return f"fine-tuning needs at least {_MIN_PAIRS} items with image and text, got {pairs} of {items}"


def _log_summary(history: FinetuningHistory) -> None:
    before, after = history.before[_METRIC], history.after[_METRIC]
    worse = after < before
    logging.getLogger(__name__).log(
        logging.WARNING if worse else logging.INFO,
        "fine-tuned for %d epochs; held-out image-text retrieval recall@5 %.4f before, %.4f after%s",
        len(history.rows), before, after,
        ": fine-tuning made it worse; try a lower learning_rate or take the encoder as it is" if worse else "",
    )  # fmt: skip
