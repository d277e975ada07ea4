"""Where a recommender's features come from, training or not."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jaxtyping import Int
from torch import Tensor, nn

from lmm4rec.core.types import Features


class FeatureSource(nn.Module, ABC):
    """Gives the features of all items."""

    @abstractmethod
    def forward(self, items: Int[Tensor, " batch"] | None = None) -> Features:
        """The whole table; the rows of `items` carry gradient where an encoder is in training."""


class Frozen(FeatureSource):
    """Features that never change; `.to()` moves them."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.modalities = tuple(features)
        for modality, rows in features.items():
            self.register_buffer(f"rows_{modality}", rows, persistent=False)

    def forward(self, items: Int[Tensor, " batch"] | None = None) -> Features:
        """The table as it was given."""
        return {modality: self.get_buffer(f"rows_{modality}") for modality in self.modalities}
