"""The record of a fine-tuning recipe: what an encoder's authors published, or this package's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from lmm4rec.core.types import NonNegativeFloat

LossWeight: TypeAlias = NonNegativeFloat | Literal["auto"]
"""The weight of a loss; "auto": 1 where the encoder has the head for it."""


@dataclass(frozen=True, kw_only=True)
class FinetuningRecipe:
    """All numbers of a fine-tuning on pairs of image and text that depend on the encoder."""

    source: str  # the paper or file with the numbers
    learning_rate: float  # at its height
    batch_size: int | None = None  # for which the learning rate is; None: for any
    schedule: Literal["linear", "cosine"]
    warmup: float  # share of all steps
    end: float = 0.0  # the last learning rate, as a share of the highest
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float
    layer_decay: float = 1.0  # factor of the learning rate from a block to the one below it
    drop_path: float = 0.0  # probability of stochastic depth in the last block
    clip_norm: float = 0.0  # largest norm of the gradient; 0: no limit
    bounds_temperature: bool = False  # whether the inverse temperature stays within 100 after each step
    main_weight: float = 1.0  # of the contrastive loss in the main space
    vl_weight: LossWeight = 0.0  # of the one in VLMo's second space
    matching_weight: LossWeight = 0.0  # of image-text matching
