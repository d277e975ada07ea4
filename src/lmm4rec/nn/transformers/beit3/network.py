"""The network of BEiT-3."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

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
    never_empty,
)

FIRST = 2
"""Positions begin at this row of their tables, as in fairseq."""

_EPS = 1e-5
_KINDS = ("image", "text")


@dataclass(frozen=True)
class Beit3Shape:
    """The sizes that make a BEiT-3; `projection` is the width of its retrieval heads, None where there are none."""

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
        """For how many tokens there are positions."""
        return self.text_rows - FIRST


SIZES = {
    "base": Beit3Shape(dim=768, layers=12, heads=12, ffn=3072, projection=768),
    "large": Beit3Shape(dim=1024, layers=24, heads=16, ffn=4096, projection=1024),
}


class Beit3Model(nn.Module):
    """Magneto blocks (arXiv 2210.06423) in which every weight is an image's or a text's own (arXiv 2208.10442)."""

    def __init__(self, shape: Beit3Shape, *, drop_path: float = 0.0, checkpointing: bool = False) -> None:
        super().__init__()
        dim = shape.dim
        self.patches = PatchEmbedding(shape.image_size, shape.patch, dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))  # of masked pre-training; no vector depends on it
        self.words = nn.Embedding(shape.vocabulary, dim)
        self.image_positions = nn.Parameter(torch.empty(FIRST + 1 + (shape.image_size // shape.patch) ** 2, dim))
        self.text_positions = nn.Parameter(torch.empty(shape.text_rows, dim))
        self.blocks = Multiway(
            [_block(shape) for _ in range(shape.layers)], drop_path=drop_path, checkpointing=checkpointing
        )
        self.norm = _norms(dim)
        if shape.projection is not None:
            self.image_head = nn.Linear(dim, shape.projection, bias=False)
            self.text_head = nn.Linear(dim, shape.projection, bias=False)
            self.logit_scale = nn.Parameter(torch.empty(()))

    def image_tokens(
        self, pixels: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch image_tokens dim"]:
        """The last states of an image's tokens, the class token first."""
        return self.run_image(self.embed_image(pixels))

    def text_tokens(
        self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch tokens dim"]:
        """The last states of a text's tokens; only those where the mask is True mean something."""
        return self.run_text(self.embed_text(ids, mask), mask)

    def fused_tokens(
        self,
        pixels: Float[Tensor, "batch channels height width"],
        ids: Int[Tensor, "batch tokens"],
        mask: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch both dim"]:
        """The last states of an image's tokens, then a text's, after attention over both."""
        return self.run_fused(torch.cat([self.embed_image(pixels), self.embed_text(ids, mask)], dim=1), mask)

    def run_image(self, x: States, *, first: int = 0) -> States:
        """The last states from those that go into the block `first`."""
        return self._run(x, [("image", x.shape[1])], None, first)

    def run_text(self, x: States, mask: Bool[Tensor, "batch tokens"], *, first: int = 0) -> States:
        """The last states from those that go into the block `first`."""
        return self._run(x, [("text", x.shape[1])], never_empty(mask), first)

    def run_fused(self, x: States, mask: Bool[Tensor, "batch text_tokens"], *, first: int = 0) -> States:
        """The last states from those that go into the block `first`; the image comes first, `mask` is the text's."""
        length, image = mask.shape[1], x.shape[1] - mask.shape[1]
        segments = [("image", image), ("text", length)]
        mask = never_empty(mask)
        return self._run(x, segments, torch.cat([mask.new_ones(len(x), image), mask], dim=1), first)

    def embed_image(self, pixels: Float[Tensor, "batch channels height width"]) -> States:
        """What the first block gets of an image."""
        return self.patches(pixels) + self.image_positions[FIRST:]

    def embed_text(self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]) -> States:
        """What the first block gets of a text; nothing where the mask is False."""
        words = embed(self.words, ids, at_most=len(self.text_positions) - FIRST)
        return (words + self.text_positions[FIRST : FIRST + ids.shape[1]]) * never_empty(mask)[..., None]

    def _run(self, x: Tensor, segments: Segments, mask: Tensor | None, first: int) -> Tensor:
        return self.norm(self.blocks(x, [segments] * len(self.blocks), mask, first=first), segments)


def _norms(width: int) -> Experts:
    return Experts(_KINDS, lambda: nn.LayerNorm(width, eps=_EPS))


def _block(shape: Beit3Shape) -> Block:
    dim = shape.dim
    out = Experts(_KINDS, lambda: nn.Linear(dim, dim))
    attention = Attention(shape.heads, SeparateProjections(dim, _KINDS), out, _norms(dim))
    ffn = Experts(_KINDS, lambda: FeedForward(dim, shape.ffn, inner_eps=_EPS))
    return Block(_norms(dim), attention, _norms(dim), ffn)
