"""Paired: an encoder for each modality, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.types import Inputs, Item, Modality
from lmm4rec.encoders.base import Encoder
from lmm4rec.nn.transformers.towers import Tower

__all__ = ["Paired"]


class Paired(Encoder):
    """Two or three modality-specific encoders side by side, as in the paper's baselines: no space is shared.

    Any of `image`, `text` and `audio` may be left out, but one alone needs no "paired".
    """

    about: ClassVar = {"gives": "image, text and audio, each of its encoder", "weights": "those of the encoders"}

    def __init__(
        self,
        *,
        image: Annotated[Encoder | None, Doc("The encoder of the images.")] = None,
        text: Annotated[Encoder | None, Doc("The encoder of the texts.")] = None,
        audio: Annotated[Encoder | None, Doc("The encoder of the sound files.")] = None,
    ) -> None:
        """Raises ConfigError for fewer than two encoders, and where one gives more or less than its modality."""
        super().__init__()
        self.image, self.words, self.audio = image, text, audio
        sides = self.sub_encoders()
        if len(sides) < 2:
            raise ConfigError(
                "'paired' needs the encoders of two modalities or more: image, text, audio; it has "
                f"{' and '.join(sides) or 'none'}"
            )
        for modality, encoder in sides.items():
            if encoder.modalities != (modality,):
                raise ConfigError(
                    f"the {modality} side of 'paired' is {type(encoder).__name__}, which gives "
                    f'{" and ".join(encoder.dims)}; it must give {modality} alone (outputs = "{modality}" where it '
                    "has that parameter)"
                )
        self.text = "" if text is None else text.text
        self.has_weights = any(encoder.has_weights for encoder in sides.values())
        self.dims = {modality: encoder.dims[modality] for modality, encoder in sides.items()}

    def learn_catalog(self, items: Sequence[Item]) -> None:
        """Let all sides learn from the catalog."""
        for encoder in self.sub_encoders().values():
            encoder.learn_catalog(items)

    def with_modalities(self, modalities: Sequence[Modality]) -> Encoder:
        """One of the sides, some of them, or all."""
        super().with_modalities(modalities)  # refuses a modality that is none of theirs
        sides = {modality: side for modality, side in self.sub_encoders().items() if modality in modalities}
        if len(sides) in (0, len(self.dims)):
            return self
        if len(sides) == 1:
            return next(iter(sides.values()))
        part = Paired(**sides)
        part.training = self.training
        return part

    def by_modality(self) -> tuple[Encoder, ...]:
        """The sides."""
        return tuple(part for side in self.sub_encoders().values() for part in side.by_modality())

    def sub_encoders(self) -> Mapping[str, Encoder]:
        """The sides, by their modalities."""
        sides = {"image": self.image, "text": self.words, "audio": self.audio}
        return {modality: side for modality, side in sides.items() if side is not None}

    def towers(self) -> Mapping[Modality, Tower]:
        """The towers of all sides."""
        return {modality: tower for side in self.sub_encoders().values() for modality, tower in side.towers().items()}

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """The inputs of each side."""
        parts = [side.prepare(items)._asdict() for side in self.sub_encoders().values()]
        return Inputs(**{name: values for part in parts for name, values in part.items() if values is not None})

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The vectors of each side."""
        return {modality: side(inputs.of(modality))[modality] for modality, side in self.sub_encoders().items()}

    def unreadable(self, items: Sequence[Item], inputs: Inputs) -> Bool[Tensor, " batch"]:
        """The rows of which any side lacks the file that it reads."""
        sides = self.sub_encoders().items()
        return torch.stack([side.unreadable(items, inputs.of(modality)) for modality, side in sides]).any(dim=0)

    def item_digest(self, item: Item) -> str:
        """A digest of the image, text and sound of an item, as far as they are encoded."""
        digest = super().item_digest(item)
        return digest if self.audio is None else fingerprint(digest, self.audio.item_digest(item))

    def settings(self) -> dict[str, object]:
        """The settings and classes of all sides."""
        return {
            modality: {"encoder": type(side).__name__, **side.settings()}
            for modality, side in self.sub_encoders().items()
        }
