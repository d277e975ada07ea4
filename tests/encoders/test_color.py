"""The color encoder against images whose order is known."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lmm4rec.core.types import Item
from lmm4rec.encoders.color import Color
from lmm4rec.testing.encoders import vectors
from lmm4rec.testing.items import NoiseImage


def test_a_color_encoder_tells_colors_and_directions_apart() -> None:
    """Red is nearer to another red than to blue, and upright stripes are nearer to upright ones."""

    class Flat(NoiseImage):
        def __init__(self, image: Image.Image) -> None:
            object.__setattr__(self, "image", image)

        def open(self) -> Image.Image:
            return self.image  # type: ignore[attr-defined]

    def image(color: tuple[int, int, int], *, upright: bool) -> Item:
        stripes = np.full((64, 64, 3), 255, np.uint8)
        for start in range(0, 64, 8):
            stripes[(slice(None), slice(start, start + 4)) if upright else (slice(start, start + 4), slice(None))] = (
                color
            )
        return Item("x", {}, Flat(Image.fromarray(stripes)))

    images = [
        image((220, 20, 20), upright=True), image((190, 40, 40), upright=True),
        image((20, 20, 220), upright=True), image((220, 20, 20), upright=False),
    ]  # fmt: skip
    x = vectors(Color(), images)["image"]
    near, other_color, other_direction = (x[0] @ x[1:].T).tolist()
    assert near > 0.95
    assert near > other_color + 0.05
    assert near > other_direction + 0.05
