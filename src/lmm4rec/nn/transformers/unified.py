"""The frame of a unified transformer: images, texts and pairs of both through one stack of blocks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.types import Inputs, Modality
from lmm4rec.nn.inputs import mask_empty_rows, pixels_of, text_mask, text_of
from lmm4rec.nn.transformers.multiway import Multiway, Segments, States
from lmm4rec.nn.transformers.towers import Tower, every_token


class UnifiedTransformer(nn.Module, ABC):
    """The common part of BEiT-3 and VLMo; a subclass defines embeddings, blocks and heads.

    A modality is "image", "text" or, for attention over the pair, any other name. A space names a pair of heads whose
    vectors of images and texts can be compared: "itc" (image-text contrast) and, in VLMo alone, "vl".
    """

    text_first: ClassVar[bool]
    """Whether the text's tokens come first in a pair."""

    blocks: Multiway
    image_tokens: int  # the class token and one for each patch

    @abstractmethod
    def embed_image(self, pixels: Float[Tensor, "batch channels height width"]) -> States:
        """The images' tokens before the first block."""

    @abstractmethod
    def embed_text(self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]) -> States:
        """The texts' tokens before the first block."""

    @abstractmethod
    def run(
        self, x: States, segments: Segments, mask: Bool[Tensor, "batch tokens"] | None, *, space: str, first: int
    ) -> States:
        """The states after the final norm, from those before block `first`."""

    @abstractmethod
    def read_pair(self, image: Float[Tensor, "batch dim"], text: Float[Tensor, "batch dim"]) -> Tensor:
        """The states of a pair from which its vector is computed: those of one or of both first tokens."""

    @abstractmethod
    def project(self, read: Float[Tensor, "batch _dim"], modality: Modality, space: str) -> Tensor:
        """The vectors, not normalized, from what is read of the last states."""

    def vectors(
        self, inputs: Inputs, modality: Modality, *, space: str = "itc", states: States | None = None, first: int = 0
    ) -> Float[Tensor, "batch _dim"]:
        """Unit vectors of images or texts in a joint space, or fused vectors of pairs, which are not normalized.

        With `states`, those before block `first`, the blocks below are skipped and of the inputs only the mask is read.
        """
        last = self.last_states(inputs, modality, space=space, states=states, first=first)
        vectors = self.project(self._read(last, inputs, modality), modality, space).float()
        return F.normalize(vectors, dim=1) if modality in ("image", "text") else vectors

    def last_states(
        self, inputs: Inputs, modality: Modality, *, space: str = "itc", states: States | None = None, first: int = 0
    ) -> States:
        """The states of all tokens after the final norm; where the text's mask is False they mean nothing."""
        x = self._embed(inputs, modality) if states is None else states
        if modality == "image":
            return self.run(x, [("image", x.shape[1])], None, space=space, first=first)
        mask = mask_empty_rows(text_mask(inputs))
        if modality == "text":
            return self.run(x, [("text", x.shape[1])], mask, space=space, first=first)
        length, patches = mask.shape[1], x.shape[1] - mask.shape[1]
        segments, masks = [("image", patches), ("text", length)], [mask.new_ones(len(x), patches), mask]
        order = -1 if self.text_first else 1
        return self.run(x, segments[::order], torch.cat(masks[::order], dim=1), space=space, first=first)

    def tower(self, modality: Modality, space: str = "itc") -> Tower:
        """The path of a modality as a stack of blocks that can be observed and entered."""

        def kept(inputs: Inputs) -> Tensor:
            if modality == "text":
                return text_mask(inputs)
            patches = every_token(inputs, self.image_tokens)
            return patches if modality == "image" else self._ordered(patches, text_mask(inputs))

        return Tower(
            list(self.blocks),
            lambda inputs: self.vectors(inputs, modality, space=space),
            lambda states, inputs, first: self.vectors(inputs, modality, space=space, states=states, first=first),
            kept,
            lambda states, inputs: self._read(states, inputs, modality),
        )

    def _embed(self, inputs: Inputs, modality: Modality) -> States:
        if modality == "image":
            return self.embed_image(pixels_of(inputs))
        text = self.embed_text(*text_of(inputs))
        return text if modality == "text" else self._ordered(self.embed_image(pixels_of(inputs)), text)

    def _ordered(self, image: Tensor, text: Tensor) -> Tensor:
        return torch.cat([text, image] if self.text_first else [image, text], dim=1)

    def _read(self, states: States, inputs: Inputs, modality: Modality) -> Tensor:
        """The first token of an image or a text; of a pair what `read_pair` selects."""
        if modality in ("image", "text"):
            return states[:, 0]
        length = text_mask(inputs).shape[1]
        image, text = (length, 0) if self.text_first else (0, states.shape[1] - length)
        return self.read_pair(states[:, image], states[:, text])
