"""The vectors of chosen items of one catalog, computed with gradient to the encoder or adapter in training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

from jaxtyping import Float, Int
from torch import Tensor, nn

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Item, Modality, PositiveInt
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.prepared_items import PreparedItems
from lmm4rec.encoding.runner import masked_vectors
from lmm4rec.encoding.shared_space import SharedSpace, shared_spaces


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

    text_lengths: Int[Tensor, " items"] | None = None
    """The tokens of each item's text, where a pass is padded to the longest of its items."""

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


class EncodedItems(ItemVectors):
    """The whole encoder over the items' prepared inputs, in memory where they fit `inputs_mb`, else in a file."""

    def __init__(
        self,
        encoder: Encoder,
        items: Sequence[Item],
        *,
        inputs_mb: PositiveInt = 4096,
        modalities: Sequence[Modality] = (),
    ) -> None:
        """Only the `modalities` are prepared and computed, all where none is named: see `Encoder.with_modalities`.

        Raises:
            ConfigError: the encoder has no weights to train, or no vectors of a modality.
        """
        super().__init__()
        if not encoder.has_weights:
            raise ConfigError(
                f"{type(encoder).__name__} has no weights to train, so it cannot be trained end to end: take "
                'another encoder, or train = "frozen"'
            )
        self.encoder = encoder  # with all of its modalities, as it is saved
        selected = encoder.with_modalities(modalities)
        self.dims, self.n_items = dict(selected.dims), len(items)
        self.spaces = shared_spaces(selected)
        self.inputs = PreparedItems(selected, items, memory_mb=inputs_mb)
        self.text_lengths = self.inputs.text_lengths

    def forward(self, items: Int[Tensor, " chosen"]) -> dict[Modality, Float[Tensor, "chosen _dim"]]:
        """The encoder's vectors, as float32; zeros where an item lacks the modality."""
        selected = self.encoder.with_modalities(tuple(self.dims))  # anew each time: it has the encoder's mode
        return masked_vectors(selected, self.inputs.of(items))
