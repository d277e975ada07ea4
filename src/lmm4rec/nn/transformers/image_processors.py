"""The preprocessors of images that checkpoints name, without torchvision."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import write_json
from lmm4rec.nn.transformers.hugging_face import transformers_library

_FILE = "preprocessor_config.json"
_OF_FLOATS = ("DINOv3ViTImageProcessor", "DINOv3ViTImageProcessorFast")  # transformers has them for torchvision alone
_FILTERS = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


def image_processor(source: str, *, encoder: str) -> Any:
    """The preprocessor under a folder or hub name; it takes images and gives `pixel_values`."""
    transformers = transformers_library(encoder)
    options, _ = transformers.image_processing_base.ImageProcessingMixin.get_image_processor_dict(source)
    if options.get("image_processor_type") in _OF_FLOATS:
        return FloatImages(options)
    return transformers.AutoImageProcessor.from_pretrained(source, backend="pil")


class FloatImages:
    """Images whose numbers are divided by 255 before they are resized, as those of DINOv3 (arXiv 2508.10104).

    Resized by a filter that widens where the image shrinks (antialiasing), as torchvision does it for tensors.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        """Raises ConfigError where the options ask for more: a crop, another filter, sides that are not given."""
        self.options = dict(options)
        size, self.filter = self.options.get("size", {}), _FILTERS.get(self.options.get("resample", 2))
        if self.options.get("do_center_crop") or not self.filter or set(size) != {"height", "width"}:
            raise ConfigError(
                f"the preprocessor says {json.dumps(self.options)}; what is supported is size with height and width, "
                "resample 2 or 3, and no crop"
            )
        self.size = (int(size["height"]), int(size["width"]))
        self.scale = float(self.options.get("rescale_factor", 1 / 255))
        self.mean, self.std = (
            torch.tensor(self.options[f"image_{name}"], dtype=torch.float32)[:, None, None] for name in ("mean", "std")
        )

    def __call__(self, *, images: Image.Image, return_tensors: str = "np") -> dict[str, Any]:
        """The pixels of one image, [1, 3, height, width]."""
        pixels = torch.from_numpy(np.asarray(images.convert("RGB"), dtype=np.float32)).permute(2, 0, 1)
        return {"pixel_values": self._prepared(pixels)[None].numpy()}

    def _prepared(self, pixels: Float[Tensor, "3 height width"]) -> Float[Tensor, "3 new_height new_width"]:
        scaled = pixels[None] * self.scale
        resized = F.interpolate(scaled, size=self.size, mode=str(self.filter), antialias=True, align_corners=False)
        return (resized[0] - self.mean) / self.std

    def to_json_string(self) -> str:
        """The options, in one order."""
        return json.dumps(self.options, sort_keys=True)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the options as the checkpoint has them."""
        write_json(Path(folder) / _FILE, self.options)
