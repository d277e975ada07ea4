"""Random changes to prepared images and texts in fine-tuning: crops, mirroring and token masking."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import TrainingError
from lmm4rec.core.types import Inputs

_ASPECTS = (3 / 4, 4 / 3)  # of a crop, relative to the image's


def windows(
    pixels: Float[Tensor, "batch channels height width"],
    sizes: Float[Tensor, "batch 2"],
    places: Float[Tensor, "batch 2"],
    mirrored: Bool[Tensor, " batch"],
) -> Float[Tensor, "batch channels height width"]:
    """A window of each image, stretched to the full size (bilinear), and mirrored or not.

    `sizes` are its width and height as shares; `places` -1 for the left and upper end, 1 for the right and lower.
    """
    # where each point is sampled: x' = size * x + center, in coordinates from -1 to 1
    theta = torch.zeros(len(pixels), 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = sizes[:, 0] * torch.where(mirrored, -1.0, 1.0), sizes[:, 1]
    theta[:, :, 2] = places * (1 - sizes)
    grid = F.affine_grid(theta.to(pixels), list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)


@dataclass(frozen=True)
class Augmentation:
    """Random changes to prepared inputs, drawn for a whole batch from one generator.

    `crop` is the largest share of an image's area that is cut away; the rest is stretched to the full size. With
    `flip` half of the images are mirrored. `mask` is the chance of each token but the first and last to be left out:
    the random masking of CLIPA (Li et al. 2023, arXiv 2305.07017), which needs no token that stands for a hidden one.
    """

    crop: float = 0.0
    flip: bool = False
    mask: float = 0.0

    def __call__(self, inputs: Inputs, generator: torch.Generator) -> Inputs:
        """The changed inputs.

        Raises:
            TrainingError: `crop` or `flip` is set where the encoder's inputs are no plain pixels.
        """
        if (self.crop or self.flip) and inputs.pixels is not None:
            inputs = inputs._replace(pixels=self._change_images(inputs.pixels, generator))
        if self.mask and inputs.text_ids is not None and inputs.text_mask is not None:
            ids, kept = self._mask_tokens(inputs.text_ids, inputs.text_mask, generator)
            inputs = inputs._replace(text_ids=ids, text_mask=kept)
        return inputs

    def _change_images(
        self, pixels: Float[Tensor, "batch channels height width"], generator: torch.Generator
    ) -> Float[Tensor, "batch channels height width"]:
        if pixels.shape[1] != 3:
            raise TrainingError(
                f"crop and flip change images of 3 colors; this encoder prepares {list(pixels.shape[1:])}: set "
                "crop = 0.0 and flip = false"
            )
        return windows(pixels, *self._draw(len(pixels), generator))

    def _draw(
        self, batch: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "batch 2"], Float[Tensor, "batch 2"], Bool[Tensor, " batch"]]:
        """The widths and heights of the crops as shares, where they lie (-1 to 1), and which are mirrored."""
        drawn = torch.rand(batch, 5, generator=generator)
        area = 1 - self.crop * drawn[:, 0]
        low, high = (math.log(aspect) for aspect in _ASPECTS)
        stretch = torch.exp((low + (high - low) * drawn[:, 1]) / 2)
        sizes = area.sqrt()[:, None] * torch.stack([stretch, 1 / stretch], dim=1)
        if not self.crop:
            sizes = torch.ones_like(sizes)
        return sizes.clamp(max=1.0), 2 * drawn[:, 2:4] - 1, (drawn[:, 4] < 0.5) & self.flip

    def _mask_tokens(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"], generator: torch.Generator
    ) -> tuple[Int[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
        """The remaining tokens close together; at least one between the first and the last stays."""
        drawn = torch.rand(mask.shape, generator=generator).to(ids.device)
        place = torch.arange(ids.shape[1], device=ids.device)
        inner = mask & (place > 0) & (place < mask.sum(1, keepdim=True) - 1)
        drawn = drawn.masked_fill(~inner, -1.0)
        hidden = inner & (drawn < self.mask) & (drawn < drawn.amax(1, keepdim=True))
        kept = mask & ~hidden
        order = (~kept).long().argsort(dim=1, stable=True)
        kept = kept.gather(1, order)
        return ids.gather(1, order).masked_fill(~kept, 0), kept
