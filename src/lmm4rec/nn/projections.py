"""Trained linear maps, such as those from item features to columns of item vectors; drawn from a passed generator."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.matrices import row_blocks
from lmm4rec.core.types import Features, Modality

_ROWS = 2**15  # of which the hidden units of all are in memory at once
_ROUNDING = 1e-5  # distances from the center, relative to the length, that count as 0
_ROUNDING_OF_SQUARES = 3e-7  # the same of a squared distance that is a difference of squares


def xavier_weight(inputs: int, outputs: int, generator: torch.Generator) -> nn.Parameter:
    """A matrix [inputs, outputs] drawn from N(0, 2 / (inputs + outputs)) (Glorot and Bengio 2010)."""
    return nn.Parameter(torch.randn(inputs, outputs, generator=generator) * (2.0 / (inputs + outputs)) ** 0.5)


def xavier_weights(features: Features, dim: int, generator: torch.Generator) -> nn.ParameterDict:
    """A `xavier_weight` from each modality's features to `dim` numbers."""
    return nn.ParameterDict({m: xavier_weight(x.shape[1], dim, generator) for m, x in features.items()})


class Affine(nn.Module):
    """The map x W + b, with W from `xavier_weight` and b zero at first."""

    def __init__(self, inputs: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = xavier_weight(inputs, outputs, generator)
        self.offset = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows outputs"]:
        """The map of each row."""
        return F.linear(x, self.weight.T, self.offset)


def content_product(x: Float[Tensor, "rows width"], weight: Float[Tensor, "width dim"]) -> Float[Tensor, "rows dim"]:
    """x · weight in the weight's precision; the product and its gradient are computed in that of the features x."""
    return x @ weight if x.dtype == weight.dtype else (x @ weight.to(x.dtype)).to(weight.dtype)


def project(
    features: Float[Tensor, "items width"], weight: Float[Tensor, "width dim"], offset: Float[Tensor, " dim"]
) -> Float[Tensor, "items dim"]:
    """x / |x| · weight + offset for each item's features x; zeros for an item that lacks the modality.

    The product is scaled instead of the features: a row of it is `dim` numbers instead of thousands.
    """
    lengths = torch.linalg.vector_norm(features, dim=1, keepdim=True).to(weight.dtype)
    return torch.where(lengths > 0, content_product(features, weight) / lengths.clamp(min=1e-12) + offset, 0.0)


def has_content(x: Float[Tensor, "items dim"]) -> Bool[Tensor, " items"]:
    """Whether each row has an entry that is not 0: whether the item has the modality."""
    return x.detach().abs().amax(dim=1) != 0  # several times faster than `any` on a CPU


def center_of(x: Float[Tensor, "items width"]) -> Float[Tensor, " width"]:
    """The mean features of the items that have the modality."""
    return x.float().sum(0) / has_content(x).sum().clamp(min=1)


def centered(x: Float[Tensor, "items width"], center: Float[Tensor, " width"]) -> Float[Tensor, "items width"]:
    """The features less a center, scaled to length 1; zeros for an item that lacks the modality, or is at the center.

    Where all items share one image, their differences from the center are rounding errors, not content.
    """
    x = x.float()
    offset = x - center
    lengths, norms = (torch.linalg.vector_norm(side, dim=1, keepdim=True) for side in (offset, x))
    return torch.where((norms > 0) & (lengths > _ROUNDING * norms), offset / lengths.clamp(min=1e-12), 0.0)


def on_axes(x: Float[Tensor, "items width"], axes: Float[Tensor, "width axes"]) -> Float[Tensor, "items axes"]:
    """The coordinates of features on orthonormal axes; zeros where these hold no more of an item than rounding errors.

    An item that lacks the modality keeps its zeros.
    """
    x = x.float()
    short = x @ axes
    kept, lengths = (torch.linalg.vector_norm(side, dim=1, keepdim=True) for side in (short, x))
    return torch.where(kept > _ROUNDING * lengths, short, 0.0)


class Projections(nn.Module):
    """The map x W_m + b_m for each modality m; zeros for an item that lacks the modality.

    `centered`: x is (x - c_m) / |x - c_m|, with c_m the mean over the items that have the modality when the map was
    built or `renew` was called last. With `trained`, the features are weights that start at the passed ones, as in some
    authors' code: memory and time grow by three tables of the features' size, and the features passed later have no
    effect.
    """

    def __init__(
        self,
        features: Features,
        dim: int,
        generator: torch.Generator,
        *,
        bias: bool = True,
        trained: bool = False,
        centered: bool = False,
    ) -> None:
        super().__init__()
        self.centered = centered
        for modality, x in features.items() if centered else ():
            self.register_buffer(f"center_{modality}", center_of(x.detach()))
        maps = {m: xavier_weight(x.shape[1], dim, generator) for m, x in features.items()}
        self.maps = nn.ParameterDict(OrderedDict(maps))  # ParameterDict sorts the names of a plain dict
        self.offsets = nn.ParameterDict({m: nn.Parameter(torch.zeros(dim)) for m in features if bias})
        self.tables = nn.ParameterDict(
            {m: nn.Parameter(x.detach().float().clone()) for m, x in features.items() if trained}
        )

    def renew(self, features: Features) -> None:
        """Compute the centers anew, where there are any."""
        for modality in self.maps if self.centered else ():
            self.get_buffer(f"center_{modality}").copy_(center_of(features[modality].detach()))

    def forward(
        self, features: Features, items: Int[Tensor, " selected"] | None = None
    ) -> dict[Modality, Float[Tensor, "selected dim"]]:
        """The projected features of `items` (None: of all items) by modality."""
        projected = {}
        for modality, weights in self.maps.items():
            x = self.tables[modality] if self.tables else features[modality]
            center = self.get_buffer(f"center_{modality}") if self.centered else None
            product = ContentProjection(weights, center).over([x] if items is None else row_blocks(x, items))
            shifted = product + self.offsets[modality] if modality in self.offsets else product
            # features of zeros have a product of zeros, which is far shorter to look through
            projected[modality] = torch.where(has_content(product)[:, None], shifted, 0.0)
        return projected


class DeepProjections(nn.Module):
    """The map LeakyReLU(x W_m + b_m) V_m + c_m for each modality m; zeros for an item that lacks the modality.

    The hidden width is four times `dim`, as in DRAGON, MENTOR and COHESION.
    """

    def __init__(self, features: Features, dim: int, generator: torch.Generator, *, trained: bool = False) -> None:
        super().__init__()
        self.inner = Projections(features, 4 * dim, generator, trained=trained)
        self.outer = nn.ModuleDict({m: Affine(4 * dim, dim, generator) for m in features})

    def forward(self, features: Features) -> dict[Modality, Float[Tensor, "items dim"]]:
        """The mapped features of all items by modality."""
        hidden = self.inner(features)
        return {m: torch.where(has_content(x)[:, None], self.outer[m](F.leaky_relu(x)), 0.0) for m, x in hidden.items()}


class HiddenLayer(NamedTuple):
    """What a `ContentProjection` with hidden units has beside its weights."""

    offset: Float[Tensor, " hidden"]
    outer: Float[Tensor, "hidden columns"]


class ContentProjection(NamedTuple):
    """The map z W from one modality's features x to columns of an item's vector; z = 0 where the item lacks it.

    z is x, or (x - c) / |x - c| with a `center` c. With `axes`, x are the coordinates of the features on them. With a
    `hidden` layer the `weights` are [W V], and the map is z W + (relu(sqrt(width) z V + b) - relu(b)) U, with b its
    offset and U outer: zeros for z = 0.
    """

    weights: Float[Tensor, "width columns_hidden"]
    center: Float[Tensor, " width"] | None = None
    axes: Float[Tensor, "wide width"] | None = None
    hidden: HiddenLayer | None = None

    def __call__(self, content: Float[Tensor, "items _wide"]) -> Float[Tensor, "items columns"]:
        """The columns of items with these features."""
        return self.over([content] if self.hidden is None else torch.split(content, _ROWS))

    def over(self, blocks: Iterable[Float[Tensor, "_block _wide"]]) -> Float[Tensor, "items columns"]:
        """The columns of items whose features come in blocks."""
        if self.hidden is None:
            return self._product(blocks)
        return torch.cat([self._with_hidden(self._product([block]), *self.hidden) for block in blocks])

    def _with_hidden(
        self,
        product: Float[Tensor, "items columns_hidden"],
        offset: Float[Tensor, " hidden"],
        outer: Float[Tensor, "hidden columns"],
    ) -> Float[Tensor, "items columns"]:
        linear, inner = torch.split(product, [outer.shape[1], outer.shape[0]], dim=1)
        return linear + (F.relu(len(self.weights) ** 0.5 * inner + offset) - F.relu(offset)) @ outer

    def _product(self, blocks: Iterable[Float[Tensor, "_block _wide"]]) -> Float[Tensor, "items columns_hidden"]:
        """z · weights."""
        if self.axes is not None:
            axes = self.axes
            blocks = (on_axes(block, axes) for block in blocks)
        if self.center is None:
            return torch.cat([content_product(block, self.weights) for block in blocks])
        # in float32: the difference of a feature and the center may be small beside both
        blocks = (block.to(self.weights.dtype) for block in blocks)
        # the product is centered and scaled instead of the features, of which a row may be thousands of numbers
        wide = torch.cat([self.weights, self.center[:, None]], dim=1)
        pairs = [(block @ wide, torch.linalg.vector_norm(block, dim=1)) for block in blocks]
        product, norms = (torch.cat(side) for side in zip(*pairs, strict=True))
        squares = norms.square()
        lengths = squares - 2 * product[:, -1] + self.center.square().sum()
        centered = (product[:, :-1] - self.center @ self.weights) / lengths.clamp(min=1e-12).sqrt()[:, None]
        has_direction = (squares > 0) & (lengths > _ROUNDING_OF_SQUARES * squares)
        return torch.where(has_direction[:, None], centered, 0.0)
