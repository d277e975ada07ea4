"""Images in files and in memory: read when needed, in any mode, never from outside the catalog's folder."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lmm4rec.core.errors import ImageError
from lmm4rec.core.types import DrawnImage, ItemImage

MAX_PIXELS = 89_478_485  # where Pillow itself begins to warn of a decompression bomb
_UNDECODABLE = (  # what Pillow's decoders raise on damaged bytes
    OSError, SyntaxError, ValueError, TypeError, EOFError, IndexError, KeyError, OverflowError, MemoryError,
    AssertionError, struct.error, zlib.error,
)  # fmt: skip


class MissingImageError(ImageError):
    """The file is not there."""


class NotAnImageError(ImageError):
    """The file's bytes are no image of a kind that can be read."""


class HugeImageError(ImageError):
    """The image has too many pixels."""


def open_for_display(image: ItemImage, side: int) -> Image.Image:
    """The image at its own size, or where it is drawn, at `side` by `side` pixels.

    Raises:
        ImageError: it cannot be read.
    """
    return image.draw(side) if isinstance(image, DrawnImage) else image.open()


@dataclass(frozen=True)
class ImageFile:
    """An image in a file; `root` is the folder that it must lie in (None: anywhere)."""

    path: Path
    root: Path | None = None

    def __str__(self) -> str:
        inside = self.root is not None and self.path.is_relative_to(self.root)
        return str(self.path.relative_to(self.root) if self.root and inside else self.path)

    def open(self) -> Image.Image:
        """The image as upright RGB: the first frame, transparency laid on white.

        Raises:
            ImageError: the file is missing, is damaged, is no image, or has more than `MAX_PIXELS` pixels.
        """
        return _upright(self._decode(), str(self.path))

    def digest(self) -> str:
        """SHA-256 of the file's bytes; of the image's name where there is no file."""
        try:
            content = self.path.read_bytes() if self.path.is_file() else None
        except OSError:
            content = None
        if content is None:
            content = b"no file: " + str(self).encode()
        return hashlib.sha256(content).hexdigest()

    def conversions(self) -> tuple[str, ...]:
        """The conversions of `open`: any of "animated", "rotated", "alpha", "cmyk", "gray", "deep" (16 bits or more).

        Raises:
            ImageError: as `open` does, though only the header is read.
        """
        with self._decode() as image:
            try:
                found = {
                    "animated": getattr(image, "n_frames", 1) > 1,
                    "rotated": image.getexif().get(_ORIENTATION, 1) != 1,
                    "alpha": image.has_transparency_data,
                    "cmyk": image.mode == "CMYK",
                    "gray": image.mode in ("1", "L", "LA"),
                    "deep": image.mode.startswith(("I", "F")),
                }
            except _UNDECODABLE as error:
                raise ImageError(f"{self.path} is damaged: {error}") from None
        return tuple(name for name, is_so in found.items() if is_so)

    def _decode(self) -> Image.Image:
        if self.root is not None and not self.path.resolve().is_relative_to(self.root.resolve()):
            raise ImageError(f"{self.path} lies outside {self.root}")
        if self.path.exists() and not self.path.is_file():  # a named pipe would be waited for without end
            raise NotAnImageError(f"{self.path} is no regular file")
        return _opened(self.path, str(self.path), MAX_PIXELS)


@dataclass(frozen=True)
class ImageBytes:
    """An image in memory, such as an upload: checked like a file, and read with the decoders of the formats alone."""

    content: bytes = field(repr=False)
    name: str = "the image"
    max_pixels: int = MAX_PIXELS
    formats: tuple[str, ...] | None = None  # Pillow's names; None: all that it reads

    def open(self) -> Image.Image:
        """The image as upright RGB: the first frame, transparency laid on white.

        Raises:
            ImageError: it is damaged, is no image of the formats, or has more than `max_pixels` pixels.
        """
        return _upright(_opened(io.BytesIO(self.content), self.name, self.max_pixels, self.formats), self.name)

    def digest(self) -> str:
        """SHA-256 of the bytes."""
        return hashlib.sha256(self.content).hexdigest()


def _opened(
    source: Path | io.BytesIO, name: str, max_pixels: int, formats: tuple[str, ...] | None = None
) -> Image.Image:
    """The image with its header read, of an acceptable size."""
    try:
        image = Image.open(source, formats=formats)
    except FileNotFoundError:
        raise MissingImageError(f"{name} is missing") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise HugeImageError(f"{name} has more than {max_pixels:,} pixels; make it smaller") from None
    except UnidentifiedImageError:
        wanted = f" ({', '.join(formats)})" if formats else ""
        raise NotAnImageError(f"{name} is not an image that can be read{wanted}") from None
    except _UNDECODABLE as error:
        raise ImageError(f"{name} cannot be read: {error}") from None
    if image.width * image.height > max_pixels:
        size = f"{image.width} × {image.height}"
        image.close()
        raise HugeImageError(f"{name} has {size} pixels, more than {max_pixels:,}; make it smaller")
    return image


def _upright(opened: Image.Image, name: str) -> Image.Image:
    """The decoded image as upright RGB; it is closed."""
    with opened:
        try:
            return to_rgb(ImageOps.exif_transpose(opened))
        except _UNDECODABLE as error:
            raise ImageError(f"{name} is damaged: {error}") from None


_ORIENTATION = 0x0112  # the EXIF tag


def to_rgb(image: Image.Image) -> Image.Image:
    """The image (its current frame) as 8-bit RGB, transparency laid on white."""
    if image.mode.startswith(("I", "F")):
        return _from_deep(image).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        background = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(background, layer).convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image) -> Image.Image:
    """8-bit gray of a 16-bit (whole range) or floating-point (0 to 1) image, which Pillow would clip to white."""
    levels = np.asarray(image).astype(np.float64)
    scale = 255.0 if image.mode.startswith("F") else 255.0 / 65535.0
    return Image.fromarray(np.clip(np.rint(levels * scale), 0, 255).astype(np.uint8))
