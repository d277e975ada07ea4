"""Paired: one encoder for images, another for text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

from jaxtyping import Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Inputs, Item, Modality
from lmm4rec.encoders.base import Encoder
from lmm4rec.nn.transformers.towers import Tower

__all__ = ["Paired"]


class Paired(Encoder):
    """Two modality-specific encoders side by side, as in the paper's baselines: no space is shared."""

    about: ClassVar = {"gives": "image of one, text of the other", "weights": "those of the two encoders"}

    def __init__(
        self,
        *,
        image: Annotated[Encoder, Doc("The encoder of the images.")],
        text: Annotated[Encoder, Doc("The encoder of the texts.")],
    ) -> None:
        """Raises ConfigError where an encoder gives more or less than its side's modality."""
        super().__init__()
        for modality, encoder in (("image", image), ("text", text)):
            if encoder.modalities != (modality,):
                raise ConfigError(
                    f"the {modality} side of 'paired' is {type(encoder).__name__}, which gives "
                    f'{" and ".join(encoder.dims)}; it must give {modality} alone (outputs = "{modality}" where it '
                    "has that parameter)"
                )
        self.image, self.words = image, text
        self.text = text.text
        self.has_weights = image.has_weights or text.has_weights
        self.dims = {"image": image.dims["image"], "text": text.dims["text"]}

    def learn_catalog(self, items: Sequence[Item]) -> None:
        """Let both sides learn from the catalog."""
        self.image.learn_catalog(items)
        self.words.learn_catalog(items)

    def with_modalities(self, modalities: Sequence[Modality]) -> Encoder:
        """One of the two sides, or both."""
        super().with_modalities(modalities)  # refuses a modality that is none of theirs
        sides = {"image": self.image, "text": self.words}
        return sides[modalities[0]] if len(set(modalities)) == 1 else self

    def by_modality(self) -> tuple[Encoder, ...]:
        """The two sides."""
        return (*self.image.by_modality(), *self.words.by_modality())

    def sub_encoders(self) -> Mapping[str, Encoder]:
        """The two sides."""
        return {"image": self.image, "text": self.words}

    def towers(self) -> Mapping[Modality, Tower]:
        """The towers of the two sides."""
        return {**self.image.towers(), **self.words.towers()}

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """The pixels of one side, the token ids of the other."""
        image, text = self.image.prepare(items), self.words.prepare(items)
        return Inputs(image.pixels, text.text_ids, text.text_mask, image.has_image)

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The vectors of each side."""
        image = self.image(Inputs(pixels=inputs.pixels, has_image=inputs.has_image))
        text = self.words(Inputs(text_ids=inputs.text_ids, text_mask=inputs.text_mask))
        return {"image": image["image"], "text": text["text"]}

    def settings(self) -> dict[str, object]:
        """The settings and classes of both sides."""
        return {
            side: {"encoder": type(encoder).__name__, **encoder.settings()}
            for side, encoder in (("image", self.image), ("text", self.words))
        }
