"""Small encoders of one modality each: the sides of encoders that are built from other encoders."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.types import Inputs, Item
from lmm4rec.encoders.base import Encoder, stack_pixels
from lmm4rec.nn.inputs import pad_tokens, pixels_of, spectrograms_of, text_of


class ImageSide(Encoder):
    """A linear map of a few pixels: the image side of encoders that are made of others."""

    def __init__(self) -> None:
        super().__init__()
        self.dims = {"image": 12}
        self.map = nn.Parameter(torch.randn(192, 12, generator=torch.Generator().manual_seed(0)))

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """The images in 8 x 8 pixels."""
        pixels, has_image = stack_pixels(items, _few_pixels)
        return Inputs(pixels=pixels, has_image=has_image)

    def forward(self, inputs: Inputs) -> dict[str, Float[Tensor, "batch _dim"]]:
        """Unit vectors."""
        return {"image": F.normalize(pixels_of(inputs).flatten(1) @ self.map, dim=1)}

    def settings(self) -> dict[str, object]:
        """None."""
        return {}


class TextSide(Encoder):
    """The mean of a vector for each letter and its place: the text side of encoders that are made of others."""

    text = "{title}. {description}"

    def __init__(self) -> None:
        super().__init__()
        self.dims = {"text": 12}
        self.map = nn.Parameter(torch.randn(4096, 12, generator=torch.Generator().manual_seed(1)))

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """A number for each letter and its place."""
        texts = [self.item_text(item) for item in items]
        rows = [[ord(letter) * (place + 1) % 4096 for place, letter in enumerate(text)] for text in texts]
        ids, mask = pad_tokens(rows, 0)
        return Inputs(text_ids=ids, text_mask=mask)

    def forward(self, inputs: Inputs) -> dict[str, Float[Tensor, "batch _dim"]]:
        """Unit vectors."""
        ids, mask = text_of(inputs)
        return {"text": F.normalize((self.map[ids] * mask[..., None]).sum(1), dim=1)}

    def settings(self) -> dict[str, object]:
        """The template."""
        return {"text": self.text}


class AudioSide(Encoder):
    """A linear map of a few frames of noise: the audio side of encoders that are made of others.

    The noise is drawn from the item's id, the seed of its file; items without a readable image have no sound either.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dims = {"audio": 12}
        self.map = nn.Parameter(torch.randn(32, 12, generator=torch.Generator().manual_seed(2)))

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """Four frames of eight numbers."""
        seeds = [zlib.crc32(item.id.encode()) for item in items]
        frames = [torch.randn(1, 4, 8, generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        heard = torch.tensor(["image" not in item.id for item in items], dtype=torch.bool)
        return Inputs(
            spectrograms=torch.stack(frames) * heard[:, None, None, None], sound_mask=heard[:, None].expand(-1, 4)
        )

    def forward(self, inputs: Inputs) -> dict[str, Float[Tensor, "batch _dim"]]:
        """Unit vectors."""
        return {"audio": F.normalize(spectrograms_of(inputs).flatten(1) @ self.map, dim=1)}

    def item_digest(self, item: Item) -> str:
        """The item's id."""
        return fingerprint(item.id)

    def settings(self) -> dict[str, object]:
        """None."""
        return {}


def _few_pixels(image: Image.Image) -> Float[Tensor, "3 8 8"]:
    return torch.from_numpy(np.asarray(image.resize((8, 8)), np.float32)).permute(2, 0, 1) / 255 - 0.5
