"""Small images inside a page, sharp at two pixels a CSS pixel; each is embedded once, however often it is shown."""

from __future__ import annotations

import base64
import io
import statistics
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from PIL import Image

from lmm4rec.core.errors import ImageError
from lmm4rec.data.images import open_for_display
from lmm4rec.experiments.report.user_examples import ItemCard

LARGE, SMALL = 280, 184  # pixels of the longer side: twice the widths in CSS pixels that page.css allows at most
_LEVELS = ((1.0, 80), (1.0, 60), (0.75, 60), (0.5, 60), (0.35, 50))  # (scale, WebP quality), the best first
_LOSSLESS_SIDE = 72  # images this small lose much by compression and cost little without


@dataclass(frozen=True)
class Thumbnail:
    """A small image: the name by which cards refer to it, its size in pixels, and its bytes as a data URL."""

    name: str
    width: int
    height: int
    url: str


@dataclass(frozen=True)
class PageImages:
    """The images of a page."""

    by_item: Mapping[str, Thumbnail]  # no entry where an item has no readable image
    aspect: float  # width / height of the frame in which all images are shown

    @property
    def thumbnails(self) -> list[Thumbnail]:
        """The distinct images."""
        return list({thumbnail.name: thumbnail for thumbnail in self.by_item.values()}.values())

    def fit(self, thumbnail: Thumbnail) -> str:
        """The value of SVG's preserveAspectRatio: cropped where the shape is near the frame's, else whole."""
        ratio = thumbnail.width / thumbnail.height / self.aspect
        return "slice" if 0.8 <= ratio <= 1.25 else "meet"


def page_images(small: Iterable[ItemCard], large: Iterable[ItemCard], *, budget: int = 3_500_000) -> PageImages:
    """The images of cards shown small and large, in at most `budget` characters together.

    An image that cannot be read is left out, and its cards show a placeholder. Equal images are kept once.
    """
    cards = {card.id: (card.image, SMALL) for card in small}
    cards |= {card.id: (card.image, LARGE) for card in large}
    images: dict[str, Image.Image] = {}
    digests: dict[str, str] = {}
    for item, (image, side) in cards.items():
        if image is None:
            continue
        try:
            digest = image.digest()
            if digest not in images or max(images[digest].size) < side:
                images[digest] = _shrunk(open_for_display(image, side), side)
        except ImageError:
            continue
        digests[item] = digest
    sizes_and_urls = _encoded(images, budget)
    thumbnails = {
        digest: Thumbnail(f"image-{i}", *size, url) for i, (digest, (size, url)) in enumerate(sizes_and_urls.items())
    }
    ratios = [image.width / image.height for image in images.values()]
    aspect = min(max(statistics.median(ratios), 2 / 3), 3 / 2) if ratios else 1.0
    return PageImages({item: thumbnails[digest] for item, digest in digests.items()}, aspect)


def placeholder_hue(item: str) -> int:
    """A hue in degrees for an item's placeholder, the same in every report."""
    return zlib.crc32(item.encode()) % 360


def _encoded(images: Mapping[str, Image.Image], budget: int) -> dict[str, tuple[tuple[int, int], str]]:
    """Size and data URL of each image, at the best level that fits the budget (the last one where none does)."""
    encoded: dict[str, tuple[tuple[int, int], str]] = {}
    for scale, quality in _LEVELS:
        shrunk = {digest: _shrunk(image, round(scale * max(image.size))) for digest, image in images.items()}
        encoded = {digest: (image.size, _data_url(image, quality)) for digest, image in shrunk.items()}
        if sum(len(url) for _, url in encoded.values()) <= budget:
            break
    return encoded


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _data_url(image: Image.Image, quality: int) -> str:
    file = io.BytesIO()
    if max(image.size) <= _LOSSLESS_SIDE and quality == _LEVELS[0][1]:
        image.save(file, "WEBP", lossless=True)
    else:
        image.save(file, "WEBP", quality=quality, method=2)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
