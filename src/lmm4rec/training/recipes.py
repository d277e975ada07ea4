"""Recipes of fine-tuning: the published numbers of an encoder, adjusted to the batch and to the user's options."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Literal, TypeAlias

from lmm4rec.core.errors import TrainingError
from lmm4rec.encoders.base import Encoder
from lmm4rec.nn.transformers.multiway import drop_path_of
from lmm4rec.nn.transformers.recipe import FinetuningRecipe
from lmm4rec.training.lr_schedule import LearningRateSchedule

RecipeName: TypeAlias = Literal["plain", "official", "pretraining"]

PLAIN = FinetuningRecipe(
    source="this package", learning_rate=1e-5, schedule="cosine", warmup=0.1, weight_decay=0.1, clip_norm=1.0,
    bounds_temperature=True, vl_weight="auto", matching_weight="auto",
)  # fmt: skip

PLAIN_KEYS = {key: getattr(PLAIN, key) for key in ("learning_rate", "weight_decay", "warmup")}
"""The keys of [features.finetune] that `plain` fills in, for every encoder."""

_KEYS = (*PLAIN_KEYS, "layer_decay", "drop_path", "vl_weight", "matching_weight")


def resolve_recipe(encoder: Encoder, options: Mapping[str, Any]) -> FinetuningRecipe:
    """The recipe of an encoder with all numbers that a fine-tuning needs; `options` are arguments of `fit_pairs`.

    Options replace the recipe's numbers, except None and "auto"; so does the encoder's own `drop_path` where it is not
    0. A published learning rate belongs to the published batch size: for another one it is multiplied by the square
    root of the ratio of the batches, the rule for Adam (Malladi et al. 2022, arXiv 2205.10287).

    Raises:
        TrainingError: the encoder has no such recipe, or no blocks for the requested stochastic depth.
    """
    recipe = _named(encoder, options.get("recipe", "plain"))
    if recipe.batch_size is not None:
        ratio = options["batch_size"] / recipe.batch_size
        recipe = replace(
            recipe, learning_rate=recipe.learning_rate * math.sqrt(ratio), batch_size=options["batch_size"]
        )
    drop_path = drop_path_of(encoder)
    wanted = options.get("drop_path") or recipe.drop_path
    if drop_path is None and wanted:
        raise TrainingError(
            f"drop_path = {wanted}, but {type(encoder).__name__} has no blocks with stochastic depth. "
            "Set drop_path = 0.0"
        )
    recipe = replace(recipe, drop_path=drop_path or recipe.drop_path)
    return replace(recipe, **{key: options[key] for key in _KEYS if options.get(key) not in (None, "auto")})


def schedule_of(recipe: FinetuningRecipe) -> LearningRateSchedule:
    """The learning-rate schedule of a recipe."""
    return LearningRateSchedule(
        learning_rate=recipe.learning_rate, weight_decay=recipe.weight_decay, schedule=recipe.schedule,
        warmup=recipe.warmup, end=recipe.end, betas=recipe.betas,
    )  # fmt: skip


def recipe_record(recipe: FinetuningRecipe) -> dict[str, Any]:
    """The numbers of a recipe, for a record and for the key of a cache."""
    return {key: value for key, value in asdict(recipe).items() if key != "source"}


def recipe_line(name: str, recipe: FinetuningRecipe) -> str:
    """The main numbers of a recipe, in one line."""
    numbers = ("weight_decay", "warmup", "layer_decay", "drop_path")
    parts = [f"{key} = {getattr(recipe, key):g}" for key in numbers]
    return (
        f"{name}: learning_rate = {recipe.learning_rate:.3g}, {', '.join(parts)}, {recipe.schedule} ({recipe.source})"
    )


def _named(encoder: Encoder, name: str) -> FinetuningRecipe:
    if name == "plain":
        return PLAIN
    published = encoder.recipes()
    if name not in published:
        kind, known = type(encoder).__name__, " and ".join(f'"{one}"' for one in ("plain", *published))
        raise TrainingError(f'recipe = "{name}", but no such recipe is published for {kind}: there is {known}')
    return published[name]
