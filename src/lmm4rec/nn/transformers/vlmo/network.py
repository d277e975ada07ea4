"""The network of VLMo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.types import Modality
from lmm4rec.nn.transformers.multiway import (
    ANY,
    Attention,
    Block,
    Experts,
    FeedForward,
    JointProjection,
    Multiway,
    PatchEmbedding,
    Segments,
    States,
    embed,
)
from lmm4rec.nn.transformers.position_tables import bias_table_rows, image_bias_rows, pair_bias_rows, text_bias_rows
from lmm4rec.nn.transformers.unified import UnifiedTransformer

INITIAL_REACH = 196
"""The text length of the relative bias tables of all official checkpoints."""

_EPS, _TEXT_EPS = 1e-6, 1e-12


@dataclass(frozen=True)
class VlmoShape:
    """The sizes that make a VLMo; None as the width of a head means that the head is missing."""

    dim: int
    layers: int
    heads: int
    ffn: int
    vl_start: int  # the first block with a feed-forward expert for both kinds of token
    reach: int | None  # the text length of the relative bias table; None: there is no table
    absolute: bool  # whether images have absolute positions; texts have them where there is no bias table
    layer_scale: bool
    itc: int | None
    vl: int | None
    pooler: int | None
    vocabulary: int = 30522
    image_size: int = 224
    patch: int = 16
    text_rows: int = 40
    types: int = 2
    itm: bool = False  # whether there is a head for image-text matching

    @property
    def side(self) -> int:
        """The number of patches along one side of the image."""
        return self.image_size // self.patch

    @property
    def longest_text(self) -> int:
        """The number of tokens with positions."""
        return self.text_rows if self.reach is None else self.reach


SIZES = {
    "base": VlmoShape(
        dim=768, layers=12, heads=12, ffn=3072, vl_start=10, reach=INITIAL_REACH, absolute=False, layer_scale=True,
        itc=768, vl=768, pooler=768,
    ),
    "base_plus": VlmoShape(
        dim=544, layers=24, heads=16, ffn=2176, vl_start=21, reach=None, absolute=True, layer_scale=False,
        itc=544, vl=544, pooler=544,
    ),
    "large": VlmoShape(
        dim=1024, layers=24, heads=16, ffn=4096, vl_start=21, reach=INITIAL_REACH, absolute=False, layer_scale=True,
        itc=1024, vl=1024, pooler=1024,
    ),
}  # fmt: skip


class VlmoModel(UnifiedTransformer):
    """Blocks with one attention for all tokens and a feed-forward expert for each kind (arXiv 2111.02358, sec. 3.1)."""

    text_first = True
    bias_table: nn.Parameter | None
    image_positions: nn.Parameter | None
    image_rows: Tensor
    text_rows: Tensor

    def __init__(self, shape: VlmoShape, *, drop_path: float = 0.0, checkpointing: bool = False) -> None:
        super().__init__()
        self.shape = shape
        dim, side = shape.dim, shape.side
        self.image_tokens = side**2 + 1
        self.patches = PatchEmbedding(shape.image_size, shape.patch, dim)
        self.words = nn.Embedding(shape.vocabulary, dim)
        self.text_positions = nn.Embedding(shape.text_rows, dim)  # with a bias table no state depends on it
        self.text_types, self.types = nn.Embedding(2, dim), nn.Embedding(shape.types, dim)
        self.text_norm = nn.LayerNorm(dim, eps=_TEXT_EPS)
        positions = nn.Parameter(torch.empty(1, self.image_tokens, dim)) if shape.absolute else None
        self.register_parameter("image_positions", positions)
        table = None
        if shape.reach is not None:
            rows = bias_table_rows(side=side, reach=shape.reach)
            table = nn.Parameter(torch.empty(rows, shape.layers * shape.heads))
            self.register_buffer("image_rows", image_bias_rows(side), persistent=False)
            self.register_buffer(
                "text_rows", text_bias_rows(shape.reach, side=side, reach=shape.reach), persistent=False
            )
        self.register_parameter("bias_table", table)
        blocks = [_block(shape, both=index >= shape.vl_start) for index in range(shape.layers)]
        self.blocks = Multiway(blocks, drop_path=drop_path, checkpointing=checkpointing)
        self.norm = nn.LayerNorm(dim, eps=_EPS)
        if shape.itc is not None:
            self.itc_image, self.itc_text = (nn.Linear(dim, shape.itc, bias=False) for _ in range(2))
            self.logit_scale = nn.Parameter(torch.empty(()))
        if shape.vl is not None:
            self.vl_image, self.vl_text = (nn.Linear(dim, shape.vl, bias=False) for _ in range(2))
            self.logit_vl_scale = nn.Parameter(torch.empty(()))
        if shape.pooler is not None:
            self.pooler = nn.Linear(dim, shape.pooler)
        if shape.itm:
            self.itm = nn.Linear(dim, 2)

    def embed_image(self, pixels: Float[Tensor, "batch channels height width"]) -> States:
        """The images' tokens before the first block."""
        x = self.patches(pixels) + self.types.weight[1]
        return x if self.image_positions is None else x + self.image_positions

    def embed_text(self, ids: Int[Tensor, "batch tokens"], mask: Bool[Tensor, "batch tokens"]) -> States:
        """The texts' tokens before the first block."""
        x = embed(self.words, ids, at_most=self.shape.longest_text) + self.text_types.weight[0]
        if self.bias_table is None:
            x = x + self.text_positions.weight[: ids.shape[1]]
        return self.text_norm(x) + self.types.weight[0]

    def run(
        self, x: States, segments: Segments, mask: Bool[Tensor, "batch tokens"] | None, *, space: str, first: int
    ) -> States:
        """The states after the final norm, from those before block `first`.

        Pairs, and in the space "vl" images and texts too, go through the VL experts of the blocks that have them.
        """
        own, both = segments, [("vl", x.shape[1])]
        vl = space == "vl" or len(segments) > 1
        plan = [both if vl and index >= self.shape.vl_start else own for index in range(len(self.blocks))]
        return self.norm(self.blocks(x, plan, mask, self._biases(segments), first=first))

    def read_pair(self, image: Float[Tensor, "batch dim"], text: Float[Tensor, "batch dim"]) -> Tensor:
        """The text's first token."""
        return text

    def project(self, read: Float[Tensor, "batch _dim"], modality: Modality, space: str) -> Tensor:
        """The output of the space's head; for pairs the pooler's tanh."""
        if modality not in ("image", "text"):
            return torch.tanh(self.pooler(read))
        head: nn.Module = getattr(self, f"{space}_{modality}")
        return cast(Tensor, head(read))

    def _biases(self, segments: Segments) -> Sequence[Float[Tensor, "heads tokens tokens"]] | None:
        """Each block's biases; the table's columns are the heads of the first block, then those of the second, ..."""
        if self.bias_table is None:
            return None
        length = dict(segments).get("text", 0)
        rows = text = self.text_rows[:length, :length]
        if "image" in dict(segments):
            rows = pair_bias_rows(text, self.image_rows, side=self.shape.side) if length else self.image_rows
        return F.embedding(rows, self.bias_table).permute(2, 0, 1).contiguous().chunk(len(self.blocks))


def _block(shape: VlmoShape, *, both: bool) -> Block:
    dim, kinds = shape.dim, ("text", "image", "vl") if both else ("text", "image")
    attention = Attention(shape.heads, JointProjection(dim), Experts((ANY,), lambda: nn.Linear(dim, dim)))
    return Block(
        _norms((ANY,), dim), attention, _norms(kinds, dim), Experts(kinds, lambda: FeedForward(dim, shape.ffn)),
        layer_scale=dim if shape.layer_scale else None,
    )  # fmt: skip


def _norms(kinds: Sequence[str], dim: int) -> Experts:
    return Experts(kinds, lambda: nn.LayerNorm(dim, eps=_EPS))
