"""Where a recommender's features come from, training or not."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.core.types import Features


class FeatureSource(nn.Module, ABC):
    """Gives the features of all items."""

    warm_start: int = 0
    """Epochs in which nothing of it trains yet."""

    def begin_epoch(self, batches: int) -> None:
        """What is done once before an epoch of so many batches."""

    @abstractmethod
    def forward(self, items: Int[Tensor, " batch"] | None = None, generator: torch.Generator | None = None) -> Features:
        """The whole table; the rows of `items` carry gradient where an encoder is in training."""

    def losses(self) -> dict[str, Float[Tensor, ""]]:
        """What a source in training has to minimize by itself in the step whose features it has just given."""
        return {}

    def settle(self, *, final: bool = False) -> None:
        """Make ready to rank; `final`: with exactly the vectors of the weights as they are."""

    def facts(self) -> dict[str, int]:
        """What it has done since it was last asked, for the history."""
        return {}


class Frozen(FeatureSource):
    """Features that never change; `.to()` moves them."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.modalities = tuple(features)
        for modality, rows in features.items():
            self.register_buffer(f"rows_{modality}", rows, persistent=False)

    def forward(self, items: Int[Tensor, " batch"] | None = None, generator: torch.Generator | None = None) -> Features:
        """The table as it was given."""
        return {modality: self.get_buffer(f"rows_{modality}") for modality in self.modalities}
