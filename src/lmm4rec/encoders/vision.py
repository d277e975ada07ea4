"""Vision encoders: one vector for an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Inputs, Item, Modality, NonNegativeInt
from lmm4rec.encoders.base import Encoder, stack_pixels
from lmm4rec.nn.transformers.hugging_face import (
    check_loaded,
    draw_from_seed,
    load_model,
    loading,
    save_parts,
    transformers_library,
)
from lmm4rec.nn.transformers.image_processors import image_processor
from lmm4rec.nn.transformers.towers import Tower, image_tower, stack_of

__all__ = ["Vision"]


class Vision(Encoder):
    """Any vision model of transformers (ResNet, ViT, DINOv2, DINOv3, ...), by local folder or hub name.

    The vector is the model's pooled output (the mean of the last states where it has none), L2-normalized. Images are
    prepared as the checkpoint's own preprocessor says.
    """

    about: ClassVar = {
        "gives": "image; ResNet-50 2048-d, ViT-B and DINOv2 base 768-d",
        "weights": 'a Hugging Face folder or hub name; "tiny"',
        "parameters": "ResNet-50 23,508,032; ViT-B/16 86,389,248; DINOv2 base 86,580,480",
    }

    def __init__(self, *, checkpoint: Annotated[str, Doc("Folder or hub name.")]) -> None:
        """Raises ConfigError where there is no vision model under `checkpoint`, MissingExtraError without the extra."""
        super().__init__()
        self.model: Any
        expected = "a folder with config.json, model.safetensors and preprocessor_config.json"
        with loading(checkpoint, kind="vision model", expected=expected) as source:
            transformers = transformers_library("vision")
            self.model, missing = load_model(transformers.AutoModel, source)
            self.processor: Any = image_processor(source, encoder="vision")
        untrained = {name for name in missing if name.startswith("pooler.")}
        check_loaded(checkpoint, source, missing - untrained)
        if untrained:  # the checkpoint of a classifier: its pooler would be drawn at random
            self.model.pooler = None
        self.dims = {"image": self._width(checkpoint)}

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """Pixels from the checkpoint's preprocessor."""
        pixels, has_image = stack_pixels(items, self._to_pixels)
        return Inputs(pixels=pixels, has_image=has_image)

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The unit vectors of the images."""
        out = self.model(pixel_values=inputs.pixels)
        vectors = getattr(out, "pooler_output", None)
        if vectors is None:
            states = out.last_hidden_state  # [batch, tokens, dim] or [batch, dim, height, width]
            vectors = states.mean(dim=1) if states.ndim == 3 else states.mean(dim=(2, 3))
        return {"image": F.normalize(vectors.flatten(1), dim=1)}

    def towers(self) -> Mapping[Modality, Tower]:
        """The stack of blocks where the model is one, read at its class token where it has one."""
        blocks = stack_of(self.model, getattr(self.model.config, "num_hidden_layers", None))
        if blocks is None:
            return {}
        blank = torch.zeros_like(self._to_pixels(Image.new("RGB", (64, 64)))[None])
        has_class = any(name.split(".")[-1] == "cls_token" for name, _ in self.model.named_parameters())
        return {"image": image_tower(blocks, lambda inputs: self(inputs)["image"], blank, class_token=has_class)}

    def settings(self) -> dict[str, object]:
        """The preprocessor's values and the architecture."""
        return {"preprocessing": self.processor.to_json_string(), "architecture": self.model.config.to_json_string()}

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder as a folder in the Hugging Face layout."""
        save_parts(folder, (self.model, self.processor))

    @classmethod
    def write_tiny(cls, folder: str | Path, texts: Sequence[str], *, seed: NonNegativeInt = 0) -> None:
        """Write a small untrained ViT in the Hugging Face layout; it reads no texts."""
        transformers = transformers_library("vision")
        config = transformers.ViTConfig(
            hidden_size=96, num_hidden_layers=2, num_attention_heads=3, intermediate_size=384, image_size=64,
            patch_size=16,
        )  # fmt: skip
        processor = transformers.ViTImageProcessorPil(size={"height": 64, "width": 64})
        save_parts(folder, (draw_from_seed(lambda: transformers.ViTModel(config), seed), processor))

    def _to_pixels(self, image: Image.Image) -> Float[Tensor, "channels height width"]:
        return torch.from_numpy(np.asarray(self.processor(images=image, return_tensors="np")["pixel_values"][0]))

    def _width(self, checkpoint: str) -> int:
        """The width of the vectors, by a trial: architectures have no common name for it."""
        trial = Inputs(pixels=self._to_pixels(Image.new("RGB", (64, 64)))[None])
        try:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                before = torch.get_rng_state()
                vectors = self(trial)["image"]
                is_random = not torch.equal(before, torch.get_rng_state())
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"the {type(self.model).__name__} under checkpoint '{checkpoint}' gives no vector for an image alone "
                f"({error}); use a vision model, or the encoder 'clip' for a CLIP"
            ) from error
        if is_random:  # such as masked autoencoders, which hide random patches
            raise ConfigError(
                f"the {type(self.model).__name__} under checkpoint '{checkpoint}' draws at random even in evaluation; "
                "use a model that gives an image the same vector each time"
            )
        return vectors.shape[1]
