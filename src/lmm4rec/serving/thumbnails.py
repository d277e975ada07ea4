"""Thumbnails: small images of items for the web page."""

from __future__ import annotations

import io
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice

from PIL import Image

from lmm4rec.core.device import cores
from lmm4rec.core.errors import ImageError
from lmm4rec.core.progress import progress
from lmm4rec.core.types import ItemImage
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.images import open_for_display

SIDE = 416  # pixels of the shorter side: the page shows squares of up to 208, on dense screens of two pixels each
SMALLER_SIDES = (64, 192)  # for lists of small images
_QUALITY = 75
_MOST_STRETCHED = 2  # the longer side has up to so many times the pixels of the shorter one; beyond, both have fewer


def thumbnail(image: ItemImage, *, side: int = SIDE) -> bytes:
    """The thumbnail of an image, as WebP, with `side` pixels on the shorter side; an image of fewer keeps its size.

    Raises:
        ImageError: it cannot be read.
    """
    return _reduced(open_for_display(image, side), side)


@lru_cache(maxsize=8192)  # some 20 MB
def smaller(content: bytes, side: int) -> bytes:
    """A thumbnail reduced to the least of `SMALLER_SIDES` that has `side` pixels; itself where none has."""
    chosen = next((one for one in SMALLER_SIDES if one >= side), None)
    return content if chosen is None else _reduced(Image.open(io.BytesIO(content)), chosen)


def _reduced(image: Image.Image, side: int) -> bytes:
    scale = min(side / min(image.size), _MOST_STRETCHED * side / max(image.size))
    if scale < 1:
        width, height = (max(1, round(scale * pixels)) for pixels in image.size)
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "WEBP", quality=_QUALITY, method=2)
    return file.getvalue()


def catalog_thumbnails(
    catalog: Catalog, rows: Iterable[int], *, limit: int = 5000, budget_mb: int = 64
) -> dict[int, bytes]:
    """The thumbnails of the first `limit` of the catalog rows that have an image, while they fit `budget_mb` MiB.

    Images that cannot be read are left out.
    """
    thumbnails: dict[int, bytes] = {}
    used = 0
    images = {row: image for row in rows if (image := catalog.images[row]) is not None}
    images = dict(islice(images.items(), limit))
    with (
        ThreadPoolExecutor(cores()) as pool,
        progress(total=len(images), description="thumbnails", unit="image", after_s=1.0) as bar,
    ):
        for row, small in zip(images, pool.map(_thumbnail_or_none, images.values()), strict=True):
            bar.update()
            used += len(small or b"")
            if used > budget_mb * 2**20:
                pool.shutdown(cancel_futures=True)
                break
            if small is not None:
                thumbnails[row] = small
    return thumbnails


def _thumbnail_or_none(image: ItemImage) -> bytes | None:
    try:
        return thumbnail(image)
    except ImageError:  # the doctor lists them
        return None
