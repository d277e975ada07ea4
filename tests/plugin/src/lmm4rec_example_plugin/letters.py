"""Letters: a text's vector from its sequences of three letters, without any weights."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.types import Inputs, Item, Modality, PositiveInt
from lmm4rec.encoders.base import Encoder
from lmm4rec.nn.inputs import pad_tokens, text_of


class Letters(Encoder):
    """Counts of hashed letter trigrams, scaled to length 1."""

    has_weights = False
    about: ClassVar = {"gives": "text; as wide as dim", "weights": "none"}

    def __init__(self, *, text: str = "{title}. {description}", dim: PositiveInt = 256) -> None:
        super().__init__()
        self.text = text
        self.dims = {"text": dim}

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """The bucket of each trigram."""
        ids, mask = pad_tokens([self._buckets(self.item_text(item)) for item in items], 0)
        return Inputs(text_ids=ids, text_mask=mask)

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The unit vectors of the texts."""
        ids, mask = text_of(inputs)
        counts = torch.zeros(len(ids), self.dims["text"], device=ids.device)
        return {"text": F.normalize(counts.scatter_add_(1, ids, mask.float()), dim=1)}

    def settings(self) -> dict[str, object]:
        """All that the vectors depend on: the feature store finds them by it."""
        return {"text": self.text, "dim": self.dims["text"], "version": 1}

    def _buckets(self, text: str) -> list[int]:
        letters = text.lower()
        return [zlib.crc32(letters[at : at + 3].encode()) % self.dims["text"] for at in range(len(letters) - 2)]
