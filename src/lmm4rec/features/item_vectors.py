"""The vectors of chosen items of one catalog, computed with gradient to the encoder or adapter in training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.core.types import Modality
from lmm4rec.encoding.shared_space import SharedSpace


class ItemVectors(nn.Module, ABC):
    """A module that computes the vectors of chosen catalog items from stored inputs or states of each item.

    Stored are prepared inputs (a whole encoder trains), the output of frozen lower blocks (the top ones train), or
    the states of all layers (a side network trains). Its parameters that require gradient train.
    """

    dims: Mapping[Modality, int]
    """The width of each modality's vector, in a fixed order."""

    n_items: int
    """The number of items in the catalog."""

    encodes: ClassVar[bool] = True
    """Whether a pass goes through an encoder, or a part of one."""

    spaces: Sequence[SharedSpace] = ()
    """The spaces that image and text vectors share, that of these vectors first; empty where they share none."""

    @abstractmethod
    def forward(self, items: Int[Tensor, " chosen"]) -> dict[Modality, Float[Tensor, "chosen _dim"]]:
        """The vectors of the given catalog rows; zeros where an item lacks the modality."""

    def scale(self) -> Float[Tensor, ""] | None:
        """The learned inverse temperature of the space that image and text share; None where they share none."""
        return self.spaces[0].scale() if self.spaces else None

    def bound_scale(self) -> None:
        """Put a learned scale within its bound: see `SharedSpace.bound_scale`."""
        for space in self.spaces[:1]:
            space.bound_scale()
