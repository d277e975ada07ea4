"""The sizes of thumbnails: enough pixels for the squares that the page shows, and no more."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from shops import png

from lmm4rec.data.images import ImageBytes
from lmm4rec.serving.thumbnails import SIDE, smaller, thumbnail


def size_of(content: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(content)).size


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((1000, 1000), (SIDE, SIDE)),
        ((1500, 1000), (624, SIDE)),  # the shorter side fills the square, the longer one is cut by the page
        ((4000, 100), (832, 21)),  # a banner does not become a large file
        ((100, 60), (100, 60)),  # nothing is enlarged
        ((1, 3000), (1, 832)),
    ],
)
def test_the_shorter_side_counts(given: tuple[int, int], expected: tuple[int, int]) -> None:
    assert size_of(thumbnail(ImageBytes(png(size=given)))) == expected


def test_smaller_ones_are_of_few_sizes() -> None:
    stored = thumbnail(ImageBytes(png(size=(900, 600))))
    assert size_of(stored) == (624, SIDE)
    assert size_of(smaller(stored, 52)) == (96, 64)
    assert size_of(smaller(stored, 150)) == (288, 192)
    assert smaller(stored, 200) is stored
    tiny = thumbnail(ImageBytes(png(size=(40, 30))))
    assert size_of(smaller(tiny, 64)) == (40, 30)
