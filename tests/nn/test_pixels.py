"""Resizing and cropping against the processor of transformers and the rule of torchvision."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from lmm4rec.nn.pixels import fit_and_crop, to_tensor


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("size", "shortest_edge", "crop"),
    [
        ((64, 64), 32, (32, 32)),
        ((300, 57), 32, (32, 32)),
        ((640, 480), 32, (32, 32)),
        ((20, 500), 32, (32, 32)),
        ((1, 3), 32, (32, 32)),
        ((49, 100), 32, (25, 24)),  # 49 * (32 / 49) is 31.999... in floating point
        ((100, 49), 32, (24, 25)),
        ((40, 40), 24, (32, 32)),  # the crop reaches beyond the image
    ],
)
def test_pixels_are_those_of_transformers(size: tuple[int, int], shortest_edge: int, crop: tuple[int, int]) -> None:
    """Margins are even here: of odd ones transformers always rounds the half down."""
    transformers = pytest.importorskip("transformers")
    scales = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": shortest_edge}, crop_size={"height": crop[0], "width": crop[1]}, **scales
    )
    expected = processor(images=noise(*size), return_tensors="np")["pixel_values"][0]
    pixels = to_tensor(fit_and_crop(noise(*size), shortest_edge, crop), *scales.values())
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-5)


def test_pixels_are_the_scaled_channels_to_the_last_bit() -> None:
    mean, std = (np.array(values, np.float32)[:, None, None] for values in ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
    channels = np.asarray(noise(7, 5)).astype(np.float32).transpose(2, 0, 1)
    pixels = to_tensor(noise(7, 5), [0.1, 0.2, 0.3], [0.4, 0.5, 0.6])
    np.testing.assert_array_equal(pixels.numpy(), (channels / np.float32(255) - mean) / std)
    assert pixels.is_contiguous()


@pytest.mark.parametrize(("width", "left"), [(32, 0), (33, 0), (34, 1), (35, 2), (36, 2), (37, 2)])
def test_the_middle_is_found_as_by_official_clip(width: int, left: int) -> None:
    """torchvision's center crop begins at int(round(margin / 2)), where Python rounds halves to even."""
    image = noise(width, 32)
    cropped = np.asarray(fit_and_crop(image, 32, (32, 32)))
    np.testing.assert_array_equal(cropped, np.asarray(image)[:, left : left + 32])
