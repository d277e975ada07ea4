"""Images in files and in memory: read when needed, in any mode, never from outside the catalog's folder."""

from __future__ import annotations

import hashlib
import io
import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
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
        image = _open_any(source, formats)
    except FileNotFoundError:
        raise MissingImageError(f"{name} is missing") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise HugeImageError(f"{name} has more than {max_pixels:,} pixels; make it smaller") from None
    except UnidentifiedImageError:
        wanted = f" ({', '.join(formats)})" if formats else ""
        raise NotAnImageError(f"{name} is not an image that can be read{wanted}{_hint(source)}") from None
    except _UNDECODABLE as error:
        raise ImageError(f"{name} cannot be read: {error}") from None
    if image.width * image.height > max_pixels:
        size = f"{image.width} × {image.height}"
        image.close()
        raise HugeImageError(f"{name} has {size} pixels, more than {max_pixels:,}; make it smaller")
    return image


def _open_any(source: Path | io.BytesIO, formats: tuple[str, ...] | None) -> Image.Image:
    """The image with its header read; HEIC is read by pillow-heif where it is installed."""
    try:
        return Image.open(source, formats=formats)
    except UnidentifiedImageError:
        if formats is not None or not _HEIC.match(_head(source)) or find_spec("pillow_heif") is None:
            raise
    import_module("pillow_heif").register_heif_opener()
    return Image.open(source)


_HEIC = re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL)


def _head(source: Path | io.BytesIO) -> bytes:
    if isinstance(source, io.BytesIO):
        return source.getvalue()[:512]
    with source.open("rb") as file:
        return file.read(512)


def _hint(source: Path | io.BytesIO) -> str:
    """What the bytes are instead, and what reads them."""
    head = _head(source)
    if _HEIC.match(head) and find_spec("pillow_heif") is None:
        return ": it is HEIC, which `pip install 'lmm4rec[heic]'` reads"
    return next((f": it is {what}" for begins, what in _OTHERS.items() if re.match(begins, head, _FLAGS)), "")


_FLAGS = re.DOTALL | re.IGNORECASE
_OTHERS = {  # by first bytes
    _HEIC.pattern: "HEIC of a form that pillow-heif does not read",
    rb".{4}ftypavi[fs]": "AVIF, which Pillow 11.3 or later reads",
    rb".*<svg": "an SVG drawing; convert it to PNG, such as with `rsvg-convert`",
    rb"%PDF": "a PDF; convert its page to PNG, such as with `pdftoppm -png`",
    rb"\s*<(!doctype|html|\?xml)": "a web page",
    rb"II\*\0|MM\0\*": "a TIFF of a form that Pillow does not read; save it with 8 bits a channel",
    rb".{4}ftyp|\x1aE\xdf\xa3": "a video",
    rb"$": "empty",
}


def _upright(opened: Image.Image, name: str) -> Image.Image:
    """The decoded image as upright RGB; it is closed."""
    with opened:
        try:
            return to_rgb(ImageOps.exif_transpose(opened), getattr(opened, "tag_v2", {}))
        except _UNDECODABLE as error:
            raise ImageError(f"{name} is damaged: {error}") from None


_ORIENTATION = 0x0112  # the EXIF tag


def to_rgb(image: Image.Image, tags: Mapping[int, object] | None = None) -> Image.Image:
    """The image (its current frame) as 8-bit RGB, transparency laid on white; `tags` are those of a TIFF."""
    if image.mode.startswith(("I", "F")):
        return _from_deep(image, tags or {}).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        background = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(background, layer).convert("RGB")
    return image.convert("RGB")


def _from_deep(image: Image.Image, tags: Mapping[int, object]) -> Image.Image:
    """8-bit gray of an image of more bits a pixel, which Pillow would clip to white.

    16 bits have the whole range. Of 32-bit and floating-point images the white level is the first of 1 (floating-point
    alone), 255, 65,535 and 2³² - 1 that no pixel exceeds.
    """
    levels = np.asarray(image)
    if image.mode == "I" and tags.get(_SAMPLE_FORMAT) == _UNSIGNED:
        levels = levels.view(np.uint32)  # Pillow reads them as signed numbers
    levels = np.nan_to_num(levels.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    whites = (65535.0,) if image.mode.startswith("I;16") else (255.0, 65535.0, 2.0**32 - 1)
    whites = (1.0, *whites) if image.mode.startswith("F") else whites
    white = next((white for white in whites if levels.max() <= white), float(levels.max()))
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        levels = white - levels
    return Image.fromarray(np.clip(np.rint(levels * (255.0 / white)), 0, 255).astype(np.uint8))


_PHOTOMETRIC, _SAMPLE_FORMAT = 262, 339  # TIFF tags
_WHITE_IS_ZERO, _UNSIGNED = 0, (1,)
