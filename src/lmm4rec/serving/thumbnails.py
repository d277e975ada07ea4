"""Small pictures to show beside a title."""

from __future__ import annotations

import io
from collections.abc import Iterable
from itertools import islice

from PIL import Image

from lmm4rec.core.errors import ImageError
from lmm4rec.core.types import Picture
from lmm4rec.data.catalog import Catalog

SIDE = 192  # pixels of the longer side
_QUALITY = 75


def thumbnail(picture: Picture, *, side: int = SIDE) -> bytes:
    """A picture as a small WebP.

    Raises:
        ImageError: it cannot be read.
    """
    small = picture.open()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=_QUALITY, method=2)
    return file.getvalue()


def catalog_thumbnails(
    catalog: Catalog, rows: Iterable[int], *, limit: int = 5000, budget_mb: int = 64
) -> dict[int, bytes]:
    """The thumbnails of the first `limit` of the catalog rows that have a picture, while they fit `budget_mb` MiB.

    A picture that cannot be read is passed over.
    """
    found: dict[int, bytes] = {}
    used = 0
    pictures = ((row, picture) for row in rows if (picture := catalog.pictures[row]) is not None)
    for row, picture in islice(pictures, limit):
        try:
            small = thumbnail(picture)
        except ImageError:  # the doctor lists them
            continue
        used += len(small)
        if used > budget_mb * 2**20:
            break
        found[row] = small
    return found
