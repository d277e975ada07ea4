"""Thumbnails: small images of items for the web page."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import islice

from PIL import Image

from lmm4rec.core.errors import ImageError
from lmm4rec.core.types import ItemImage
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.images import open_for_display

SIDE = 320  # pixels of the longer side; the page shows up to 208 CSS pixels, on dense screens of two pixels each
_QUALITY = 75


def thumbnail(image: ItemImage, *, side: int = SIDE) -> bytes:
    """The thumbnail of an image, as WebP.

    Raises:
        ImageError: it cannot be read.
    """
    small = open_for_display(image, side)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=_QUALITY, method=2)
    return file.getvalue()


def catalog_thumbnails(
    catalog: Catalog, rows: Iterable[int], *, limit: int = 5000, budget_mb: int = 64
) -> dict[int, bytes]:
    """The thumbnails of the first `limit` of the catalog rows that have an image, while they fit `budget_mb` MiB.

    Images that cannot be read are left out.
    """
    thumbnails: dict[int, bytes] = {}
    used = 0
    images = ((row, image) for row in rows if (image := catalog.images[row]) is not None)
    for row, image in islice(images, limit):
        try:
            small = thumbnail(image)
        except ImageError:  # the doctor lists them
            continue
        used += len(small)
        if used > budget_mb * 2**20:
            break
        thumbnails[row] = small
    return thumbnails
