"""Uploaded images: checked, turned upright, reduced; unreadable ones are refused."""

from __future__ import annotations

import io
from dataclasses import dataclass

from PIL import Image

from lmm4rec.data.images import ImageBytes

FORMATS = ("JPEG", "PNG", "WEBP", "GIF")  # uploaded bytes reach only these decoders
LONGEST_SIDE = 768  # pixels of the stored image; no encoder here uses more
_QUALITY = 90


@dataclass(frozen=True)
class Upload:
    """An image that came with a request."""

    content: bytes
    max_pixels: int

    def normalized(self) -> ImageBytes:
        """The image that is encoded and stored: upright RGB, at most `LONGEST_SIDE` pixels a side, without metadata.

        Raises:
            ImageError: it is empty, damaged, not of the known formats, or has too many pixels.
        """
        given = ImageBytes(self.content, "the uploaded file", max_pixels=self.max_pixels, formats=FORMATS)
        image = given.open()
        image.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        image.save(file, "WEBP", quality=_QUALITY, method=2)
        return ImageBytes(file.getvalue(), "the uploaded file")
