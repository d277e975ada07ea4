"""Small pictures inside the page: each is embedded once, however often it is shown."""

from __future__ import annotations

import base64
import io
import statistics
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from PIL import Image

from lmm4rec.core.errors import ImageError
from lmm4rec.experiments.report.view import Card

_SETTINGS = ((160, 80), (160, 65), (128, 65), (96, 60), (64, 50))  # (longer side in pixels, WebP quality), best first
_LOSSLESS_SIDE = 72  # drawn pictures are small, stay crisp and cost little without loss


@dataclass(frozen=True)
class Thumbnail:
    """A small picture: what cards refer to, its size in pixels, and its bytes as a data URL."""

    name: str
    width: int
    height: int
    url: str


@dataclass(frozen=True)
class Album:
    """The pictures of a page."""

    by_item: Mapping[str, Thumbnail]  # no entry where an item has no readable picture
    aspect: float  # width / height of the frame in which all pictures are shown

    @property
    def thumbnails(self) -> list[Thumbnail]:
        """The distinct pictures."""
        return list({thumbnail.name: thumbnail for thumbnail in self.by_item.values()}.values())

    def fit(self, thumbnail: Thumbnail) -> str:
        """How a picture fills the frame (SVG's word): cut where its shape is near the frame's, else whole."""
        ratio = thumbnail.width / thumbnail.height / self.aspect
        return "slice" if 0.8 <= ratio <= 1.25 else "meet"


def album(cards: Iterable[Card], *, budget: int = 2_500_000) -> Album:
    """The pictures of the cards, small enough to fit into `budget` characters together.

    A picture that cannot be read is left out, and its cards show a placeholder. Equal pictures are kept once.
    """
    pictures: dict[str, Image.Image] = {}
    digests: dict[str, str] = {}
    unreadable: set[str] = set()
    for card in cards:
        if card.picture is None or card.id in digests or card.id in unreadable:
            continue
        try:
            digest = card.picture.digest()
            if digest not in pictures:
                pictures[digest] = _shrunk(card.picture.open(), _SETTINGS[0][0])
        except ImageError:
            unreadable.add(card.id)
            continue
        digests[card.id] = digest
    urls = _fitting(pictures, budget)
    thumbnails = {
        digest: Thumbnail(f"picture-{i}", *picture.size, urls[digest])
        for i, (digest, picture) in enumerate(pictures.items())
    }
    ratios = [picture.width / picture.height for picture in pictures.values()]
    aspect = min(max(statistics.median(ratios), 2 / 3), 3 / 2) if ratios else 1.0
    return Album({item: thumbnails[digest] for item, digest in digests.items()}, aspect)


def tint(item: str) -> int:
    """A hue in degrees for an item's placeholder, the same in every report."""
    return zlib.crc32(item.encode()) % 360


def _fitting(pictures: Mapping[str, Image.Image], budget: int) -> dict[str, str]:
    urls: dict[str, str] = {}
    for side, quality in _SETTINGS:
        urls = {digest: _data_url(_shrunk(picture, side), quality) for digest, picture in pictures.items()}
        if sum(map(len, urls.values())) <= budget:
            break
    return urls


def _shrunk(picture: Image.Image, side: int) -> Image.Image:
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return small


def _data_url(picture: Image.Image, quality: int) -> str:
    file = io.BytesIO()
    if max(picture.size) <= _LOSSLESS_SIDE and quality == _SETTINGS[0][1]:
        picture.save(file, "WEBP", lossless=True)
    else:
        picture.save(file, "WEBP", quality=quality)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode("ascii")
