"""The sources of a recommender's features, frozen or in training."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.core.types import Features


class FeatureSource(nn.Module, ABC):
    """A source of the features of all items."""

    warm_start: int = 0
    """The epochs before it begins to train."""

    def begin_epoch(self, batches: int) -> None:
        """The preparation of an epoch of this number of batches."""

    @abstractmethod
    def forward(self, items: Int[Tensor, " batch"] | None = None, generator: torch.Generator | None = None) -> Features:
        """The features of all items; the rows of `items` carry gradient where an encoder is in training."""

    def losses(self) -> dict[str, Float[Tensor, ""]]:
        """The losses of a source in training for the step of the last `forward`, beside the recommender's."""
        return {}

    def after_step(self) -> None:
        """A change to its parameters after an optimizer step, such as a bound on a learned temperature."""

    def refresh(self, *, final: bool = False) -> None:
        """Encode items again where ranking needs it; `final`: all of them with the present weights."""

    def epoch_counts(self) -> dict[str, int]:
        """The counts of items encoded since the last call, for the history."""
        return {}


class Frozen(FeatureSource):
    """Features that never change; `.to()` moves them."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.modalities = tuple(features)
        for modality, rows in features.items():
            self.register_buffer(f"rows_{modality}", rows, persistent=False)

    def forward(self, items: Int[Tensor, " batch"] | None = None, generator: torch.Generator | None = None) -> Features:
        """The features, always the same."""
        return {modality: self.get_buffer(f"rows_{modality}") for modality in self.modalities}
