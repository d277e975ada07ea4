"""Uploaded pictures: checked, turned upright, made small; what nobody can read is refused."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from lmm4rec.data.images import ImageBytes

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")  # a stranger's bytes reach these decoders and no other
LONGEST_SIDE = 768  # pixels of what is kept; no encoder here looks at more
_QUALITY = 90


@dataclass(frozen=True)
class Upload:
    """A picture that came with a request."""

    content: bytes
    max_pixels: int

    def normalized(self) -> ImageBytes:
        """The picture as it is used and kept: upright RGB, at most `LONGEST_SIDE` pixels a side, nothing hidden in it.

        Raises:
            ImageError: it is empty, damaged, no picture of the known kinds, or has too many pixels.
        """
        given = ImageBytes(self.content, "the picture", max_pixels=self.max_pixels, formats=FORMATS)
        image = given.open()
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        image.save(file, "WEBP", quality=_QUALITY, method=2)
        return ImageBytes(file.getvalue(), "the picture")
