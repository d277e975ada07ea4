"""Items' vectors by a whole encoder, with gradient to all of its weights."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Item, Modality, PositiveInt
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.prepared_items import PreparedItems
from lmm4rec.encoding.runner import masked_vectors
from lmm4rec.encoding.shared_space import shared_spaces
from lmm4rec.features.item_vectors import ItemVectors

__all__ = ["EncodedItems"]


class EncodedItems(ItemVectors):
    """The whole encoder over the items' prepared inputs, which are kept in memory where they fit `inputs_mb`."""

    def __init__(
        self,
        encoder: Encoder,
        items: Sequence[Item],
        *,
        inputs_mb: PositiveInt = 4096,
        modalities: Sequence[Modality] = (),
    ) -> None:
        """Only the `modalities` are prepared and computed, all where none is named: see `Encoder.narrowed`.

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
        narrowed = encoder.narrowed(modalities)
        self.dims, self.n_items = dict(narrowed.dims), len(items)
        self.spaces = shared_spaces(narrowed)
        self.inputs = PreparedItems(narrowed, items, memory_mb=inputs_mb)

    def forward(self, items: Int[Tensor, " chosen"]) -> dict[Modality, Float[Tensor, "chosen _dim"]]:
        """The encoder's vectors, as float32; zeros where an item lacks the modality."""
        narrowed = self.encoder.narrowed(tuple(self.dims))  # anew each time: it has the encoder's mode
        return masked_vectors(narrowed, self.inputs.of(items))
