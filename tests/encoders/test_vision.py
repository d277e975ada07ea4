"""`vision` with models of the day, against transformers' own forward pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lmm4rec.core.errors import ConfigError
from lmm4rec.encoders.vision import Vision
from lmm4rec.nn.transformers.image_processors import FloatImages
from lmm4rec.nn.transformers.towers import upper_parameters
from lmm4rec.testing.items import ITEMS

transformers = pytest.importorskip("transformers")

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
OPTIONS = {
    "image_processor_type": "DINOv3ViTImageProcessorFast", "do_resize": True, "do_rescale": True, "do_normalize": True,
    "image_mean": MEAN, "image_std": STD, "resample": 2, "rescale_factor": 1 / 255, "size": {"height": 64, "width": 48},
}  # fmt: skip


def vit() -> Any:
    config = transformers.DINOv3ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, patch_size=8,
        num_register_tokens=2,
    )  # fmt: skip
    return transformers.DINOv3ViTModel(config)


def convnext() -> Any:
    config = transformers.DINOv3ConvNextConfig(hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1])
    return transformers.DINOv3ConvNextModel(config)


@pytest.fixture(scope="module", params=[vit, convnext])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("dinov3")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = request.param()
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.2)
    model.save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps(OPTIONS))
    return path


def pillow(image: Image.Image) -> np.ndarray:
    """The pixels by Pillow's resizing of floating-point images."""
    planes = [Image.fromarray(np.asarray(image)[:, :, channel].astype(np.float32) / 255) for channel in range(3)]
    resized = [np.asarray(plane.resize((48, 64), Image.Resampling.BILINEAR)) for plane in planes]
    return (np.stack(resized) - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]


@pytest.mark.long
def test_dinov3_gives_the_librarys_vectors_of_pillows_pixels(folder: Path) -> None:
    encoder = Vision(checkpoint=str(folder)).eval()
    model = transformers.AutoModel.from_pretrained(folder).eval()
    images = [item.image.open() for item in ITEMS if item.image]
    pixels = torch.from_numpy(np.stack([pillow(image) for image in images])).float()
    given = encoder.prepare(ITEMS)
    torch.testing.assert_close(given.pixels, pixels, atol=1e-4, rtol=0)
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(model(pixel_values=pixels).pooler_output, dim=1)
        got = encoder(given)["image"]
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)
    assert (got[:1] - got[1:]).abs().amax() > 1e-3


def test_dinov3_survives_saving(folder: Path, tmp_path: Path) -> None:
    encoder = Vision(checkpoint=str(folder))
    encoder.save_pretrained(tmp_path)
    assert Vision.from_pretrained(tmp_path).fingerprint() == encoder.fingerprint()


def test_upper_blocks_of_dinov3_give_the_vectors_of_the_whole(tmp_path: Path) -> None:
    """Its positions are computed from the image's shape, which a blank image has too."""
    vit().save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(OPTIONS))
    encoder = Vision(checkpoint=str(tmp_path)).eval()
    inputs = encoder.prepare(ITEMS)
    tower = encoder.towers()["image"]
    with torch.no_grad():
        states, vectors = tower.observe(inputs, range(tower.depth + 1))
        rest = inputs._replace(pixels=None)
        for block in range(tower.depth):
            torch.testing.assert_close(tower.upper(states[block], rest, block), vectors, atol=1e-5, rtol=1e-4)
    assert upper_parameters(encoder, encoder.towers(), inputs, 1)


def test_what_the_preprocessor_cannot_do_is_refused() -> None:
    with pytest.raises(ConfigError, match="no crop"):
        FloatImages(OPTIONS | {"do_center_crop": True})
    with pytest.raises(ConfigError, match="height and width"):
        FloatImages(OPTIONS | {"size": {"shortest_edge": 32}})
