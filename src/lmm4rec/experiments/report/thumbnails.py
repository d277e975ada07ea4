"""Small images inside the page: each is embedded once, however often it is shown."""

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
from lmm4rec.experiments.report.view import Card

_SETTINGS = ((160, 80), (160, 65), (128, 65), (96, 60), (64, 50))  # (longer side in pixels, WebP quality), best first
_LOSSLESS_SIDE = 72  # drawn images are small, stay crisp and cost little without loss


@dataclass(frozen=True)
class Thumbnail:
    """A small image: what cards refer to, its size in pixels, and its bytes as a data URL."""

    name: str
    width: int
    height: int
    url: str


@dataclass(frozen=True)
class Album:
    """The images of a page."""

    by_item: Mapping[str, Thumbnail]  # no entry where an item has no readable image
    aspect: float  # width / height of the frame in which all images are shown

    @property
    def thumbnails(self) -> list[Thumbnail]:
        """The distinct images."""
        return list({thumbnail.name: thumbnail for thumbnail in self.by_item.values()}.values())

    def fit(self, thumbnail: Thumbnail) -> str:
        """How an image fills the frame (SVG's word): cut where its shape is near the frame's, else whole."""
        ratio = thumbnail.width / thumbnail.height / self.aspect
        return "slice" if 0.8 <= ratio <= 1.25 else "meet"


def album(cards: Iterable[Card], *, budget: int = 2_500_000) -> Album:
    """The images of the cards, small enough to fit into `budget` characters together.

    An image that cannot be read is left out, and its cards show a placeholder. Equal images are kept once.
    """
    images: dict[str, Image.Image] = {}
    digests: dict[str, str] = {}
    unreadable: set[str] = set()
    for card in cards:
        if card.image is None or card.id in digests or card.id in unreadable:
            continue
        try:
            digest = card.image.digest()
            if digest not in images:
                images[digest] = _shrunk(open_for_display(card.image, _SETTINGS[0][0]), _SETTINGS[0][0])
        except ImageError:
            unreadable.add(card.id)
            continue
        digests[card.id] = digest
    urls = _fitting(images, budget)
    thumbnails = {
        digest: Thumbnail(f"image-{i}", *image.size, urls[digest]) for i, (digest, image) in enumerate(images.items())
    }
    ratios = [image.width / image.height for image in images.values()]
    aspect = min(max(statistics.median(ratios), 2 / 3), 3 / 2) if ratios else 1.0
    return Album({item: thumbnails[digest] for item, digest in digests.items()}, aspect)


def tint(item: str) -> int:
    """A hue in degrees for an item's placeholder, the same in every report."""
    return zlib.crc32(item.encode()) % 360


def _fitting(images: Mapping[str, Image.Image], budget: int) -> dict[str, str]:
    urls: dict[str, str] = {}
    for side, quality in _SETTINGS:
        urls = {digest: _data_url(_shrunk(image, side), quality) for digest, image in images.items()}
        if sum(map(len, urls.values())) <= budget:
            break
    return urls


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _data_url(image: Image.Image, quality: int) -> str:
    file = io.BytesIO()
    if max(image.size) <= _LOSSLESS_SIDE and quality == _SETTINGS[0][1]:
        image.save(file, "WEBP", lossless=True)
    else:
        image.save(file, "WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
