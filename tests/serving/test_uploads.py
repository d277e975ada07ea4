"""What is kept of an upload: upright, small, whole in color, nothing beside the image."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from lmm4rec.core.errors import ImageError
from lmm4rec.serving.http.uploads import LONGEST_SIDE, Upload

MOST = 25_000_000


def file_of(image: Image.Image, kind: str = "PNG", **more: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **more)  # type: ignore[arg-type]
    return file.getvalue()


def halves() -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (80, 40), "red")
    image.paste("blue", (40, 0, 80, 40))
    return image


def test_a_turned_photo_is_upright_and_its_place_is_forgotten() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    exif.get_ifd(0x8825)[1] = "N"  # where it was taken
    kept = Upload(file_of(halves(), "JPEG", exif=exif, quality=95), MOST).normalized()
    again = Image.open(io.BytesIO(kept.content))
    assert again.size == (40, 80)
    assert not again.getexif()
    pixels = np.asarray(again.convert("RGB"))
    assert pixels[10, 20, 0] > 200  # what was left is on top
    assert pixels[70, 20, 2] > 200


def test_a_large_image_is_made_small_and_a_small_one_stays() -> None:
    large = Upload(file_of(Image.new("RGB", (2000, 1000), "green")), MOST).normalized()
    assert large.open().size == (LONGEST_SIDE, LONGEST_SIDE // 2)
    assert Upload(file_of(halves()), MOST).normalized().open().size == (80, 40)


def test_transparency_is_laid_on_white() -> None:
    clear = Upload(file_of(Image.new("RGBA", (20, 20), (0, 0, 0, 0))), MOST).normalized()
    assert np.asarray(clear.open()).min() > 250


def test_the_first_image_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (20, 20), color) for color in ("red", "blue")]
    moving = file_of(frames[0], "GIF", save_all=True, append_images=frames[1:])
    red, _, blue = np.asarray(Upload(moving, MOST).normalized().open())[10, 10]
    assert red > 200
    assert blue < 60


def test_the_same_upload_gives_the_same_bytes() -> None:
    content = file_of(halves(), "JPEG")
    assert Upload(content, MOST).normalized() == Upload(content, MOST).normalized()


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    with pytest.raises(ImageError, match=r"has 80 × 40 pixels, more than 3,000"):
        Upload(file_of(halves()), 3_000).normalized()
