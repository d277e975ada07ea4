"""What computes the vectors of chosen items of one catalog, with gradient to whatever trains in it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.core.types import Modality


class ItemVectors(nn.Module, ABC):
    """Computes the vectors of chosen catalog items from what it keeps of each item.

    What it keeps may be prepared inputs (a whole encoder trains), the output of frozen lower blocks (the top ones
    train), or the states of all layers (a side network trains). Its parameters that require gradient are what trains.
    """

    dims: Mapping[Modality, int]
    """The width of each modality's vector, in a fixed order."""

    n_items: int
    """How many items the catalog has."""

    encodes: ClassVar[bool] = True
    """Whether a pass goes through an encoder, or a part of one."""

    @abstractmethod
    def forward(self, items: Int[Tensor, " chosen"]) -> dict[Modality, Float[Tensor, "chosen _dim"]]:
        """The vectors of the given catalog rows; zeros where an item lacks the modality."""

    def scale(self) -> Float[Tensor, ""] | None:
        """The learned inverse temperature of the space that image and text share; None where they share none."""
        return None
