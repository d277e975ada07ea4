"""The network of BEiT-3."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lmm4rec.core.types import Modality
from lmm4rec.nn.inputs import mask_empty_rows
from lmm4rec.nn.transformers.multiway import (
    Attention,
    Block,
    Experts,
    FeedForward,
    Multiway,
    PatchEmbedding,
    Segments,
    SeparateProjections,
    States,
    embed,
)
from lmm4rec.nn.transformers.unified import UnifiedTransformer

FIRST = 2
"""Positions begin at this row of their tables, as in fairseq."""

_EPS = 1e-5
_KINDS = ("image", "text")


@dataclass(frozen=True)
class Beit3Shape:
    """The sizes of a BEiT-3; `projection` is the width of its retrieval heads, None where there are none."""

    dim: int
    layers: int
    heads: int
    ffn: int
    projection: int | None
    vocabulary: int = 64010
    image_size: int = 224
    patch: int = 16
    text_rows: int = 1024

    @property
    def longest_text(self) -> int:
        """The number of tokens with positions."""
        return self.text_rows - FIRST


SIZES = {
    "base": Beit3Shape(dim=768, layers=12, heads=12, ffn=3072, projection=768),
    "large": Beit3Shape(dim=1024, layers=24, heads=16, ffn=4096, projection=1024),
}


class Beit3Model(UnifiedTransformer):
    """Magneto blocks (arXiv 2210.06423) in which images and texts have separate weights (arXiv 2208.10442)."""

    text_first = False

    def __init__(self, shape: Beit3Shape, *, drop_path: float = 0.0, checkpointing: bool = False) -> None:
        super().__init__()
        self.shape = shape
        dim, self.image_tokens = shape.dim, (shape.image_size // shape.patch) ** 2 + 1
        self.patches = PatchEmbedding(shape.image_size, shape.patch, dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))  # of masked pre-training; vectors do not depend on it
        self.words = nn.Embedding(shape.vocabulary, dim)
        self.image_positions = nn.Parameter(torch.empty(FIRST + self.image_tokens, dim))
        self.text_positions = nn.Parameter(torch.empty(shape.text_rows, dim))
        self.blocks = Multiway(
            [_block(shape) for _ in range(shape.layers)], drop_path=drop_path, checkpointing=checkpointing
        )
        self.norm = _norms(dim)
        if shape.projection is not None:
            self.image_head = nn.Linear(dim, shape.projection, bias=False)
            self.text_head = nn.Linear(dim, shape.projection, bias=False)
            self.logit_scale = nn.Parameter(torch.empty(()))

    def embed_image(self, pixels: Float[Tensor, "batch channels height width"]) -> States:
        """The images' tokens before the first block."""
        return self.patches(pixels) + self.image_positions[FIRST:]

    def embed_text(self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]) -> States:
        """The texts' tokens before the first block; zeros where the mask is False."""
        tokens = embed(self.words, ids, at_most=len(self.text_positions) - FIRST)
        return (tokens + self.text_positions[FIRST : FIRST + ids.shape[1]]) * mask_empty_rows(mask)[..., None]

    def run(
        self, x: States, segments: Segments, mask: Bool[Tensor, "batch tokens"] | None, *, space: str, first: int
    ) -> States:
        """The states after the final norm, from those before block `first`."""
        return self.norm(self.blocks(x, [segments] * len(self.blocks), mask, first=first), segments)

    def read_pair(self, image: Float[Tensor, "batch dim"], text: Float[Tensor, "batch dim"]) -> Tensor:
        """Both first tokens side by side."""
        return torch.cat([image, text], dim=1).float()

    def project(self, read: Float[Tensor, "batch _dim"], modality: Modality, space: str) -> Tensor:
        """The output of the modality's retrieval head; for pairs what was read."""
        if modality not in ("image", "text"):
            return read
        head: nn.Module = getattr(self, f"{modality}_head")
        return cast(Tensor, head(read))


def _norms(width: int) -> Experts:
    return Experts(_KINDS, lambda: nn.LayerNorm(width, eps=_EPS))


def _block(shape: Beit3Shape) -> Block:
    dim = shape.dim
    out = Experts(_KINDS, lambda: nn.Linear(dim, dim))
    attention = Attention(shape.heads, SeparateProjections(dim, _KINDS), out, _norms(dim))
    ffn = Experts(_KINDS, lambda: FeedForward(dim, shape.ffn, inner_eps=_EPS))
    return Block(_norms(dim), attention, _norms(dim), ffn)
