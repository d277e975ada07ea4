"""Items' vectors by a whole encoder, with gradient to all of its weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Item, Modality, PositiveInt
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.prepared_items import PreparedItems
from lmm4rec.features.item_vectors import ItemVectors

__all__ = ["EncodedItems"]


class EncodedItems(ItemVectors):
    """The whole encoder over the items' prepared inputs, which are kept in memory where they fit `inputs_mb`."""

    def __init__(self, encoder: Encoder, items: Sequence[Item], *, inputs_mb: PositiveInt = 4096) -> None:
        """Raises ConfigError where the encoder has no weights to train."""
        super().__init__()
        if not any(parameter.requires_grad for parameter in encoder.parameters()):
            raise ConfigError(
                f"{type(encoder).__name__} has no weights to train, so it cannot be trained end to end: take "
                'another encoder, or train = "frozen"'
            )
        self.encoder = encoder
        self.dims, self.n_items = dict(encoder.dims), len(items)
        self.inputs = PreparedItems(encoder, items, memory_mb=inputs_mb)

    def forward(self, items: Int[Tensor, " chosen"]) -> dict[Modality, Float[Tensor, "chosen _dim"]]:
        """The encoder's vectors, as float32; zeros where an item lacks the modality."""
        inputs = self.inputs.of(items)
        vectors, present = self.encoder(inputs), self.encoder.present(inputs)
        return {
            modality: torch.where(present[modality][:, None], vectors[modality].float(), 0.0) for modality in self.dims
        }

    def scale(self) -> Float[Tensor, ""] | None:
        """The learned inverse temperature of the space that image and text share; None where they share none."""
        learned = getattr(self.encoder, "logit_scale", None)
        return learned.exp() if isinstance(learned, Tensor) and {"image", "text"} <= set(self.dims) else None
