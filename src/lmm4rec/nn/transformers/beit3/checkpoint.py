"""Official checkpoints of BEiT-3: names of weights, and sizes read from their shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from lmm4rec.nn.transformers.beit3.network import FIRST, Beit3Model, Beit3Shape
from lmm4rec.nn.transformers.checkpoint_sizes import grid_side, head_count, image_size, square_patch
from lmm4rec.nn.transformers.checkpoints import State, check_names, count_layers, load_state, official_names
from lmm4rec.nn.transformers.position_tables import resize_positions

HEADS = ("vision_head.weight", "language_head.weight", "logit_scale")
_LAYERS = r"beit3\.encoder\.layers\.(\d+)\."
_IMAGE_POSITIONS = "beit3.encoder.embed_positions.A.weight"
_TEXT_POSITIONS = "beit3.encoder.embed_positions.B.weight"

RENAMES = (
    (r"\.image\b", ".A"), (r"\.text\b", ".B"),
    (r"^blocks\.", "beit3.encoder.layers."),
    (r"\.attention_norm\.", ".self_attn_layer_norm."), (r"\.ffn_norm\.", ".final_layer_norm."),
    (r"\.attention\.project\.query\.", ".self_attn.q_proj."), (r"\.attention\.project\.key\.", ".self_attn.k_proj."),
    (r"\.attention\.project\.value\.", ".self_attn.v_proj."), (r"\.attention\.out\.", ".self_attn.out_proj."),
    (r"\.attention\.inner_norm\.", ".self_attn.inner_attn_ln."), (r"(\.ffn\..)\.norm\.", r"\1.ffn_layernorm."),
    (r"^norm\.", "beit3.encoder.layer_norm."),
    (r"^image_positions$", _IMAGE_POSITIONS), (r"^text_positions$", _TEXT_POSITIONS),
    (r"^patches\.", "beit3.vision_embed."), (r"^mask_token$", "beit3.vision_embed.mask_token"),
    (r"^words\.", "beit3.text_embed."), (r"^image_head\.", "vision_head."), (r"^text_head\.", "language_head."),
)  # fmt: skip
"""Replacements that turn the names here into the official ones, where A is the image and B the text."""


def load_beit3(
    state: State,
    *,
    checkpoint: str,
    needs_heads: bool,
    given: Mapping[str, int | None],
    drop_path: float = 0.0,
    checkpointing: bool = False,
) -> Beit3Model:
    """The network of a checkpoint's tensors.

    `given` holds the user's heads, image_size and patch; positions are interpolated to another image_size.

    Raises:
        ConfigError: weights are missing or do not fit, or contradict `given`.
    """
    _check(state, checkpoint=checkpoint, needs_heads=needs_heads)
    shape = _read_shape(state, given)
    side = shape.image_size // shape.patch
    state = state | {_IMAGE_POSITIONS: resize_positions(state[_IMAGE_POSITIONS], extra=FIRST + 1, side=side)}
    with torch.device("meta"):
        model = Beit3Model(shape, drop_path=drop_path, checkpointing=checkpointing)
    load_state(model, state, RENAMES, checkpoint=checkpoint, kind="BEiT-3")
    return model


def _check(state: State, *, checkpoint: str, needs_heads: bool) -> None:
    """Refuse missing weights, before sizes are read from those that are there."""
    with_heads = needs_heads or any(name in state for name in HEADS)
    layers = max(count_layers(state, _LAYERS), 1)
    smallest = Beit3Shape(1, layers, 1, 1, projection=1 if with_heads else None, vocabulary=1, image_size=1, patch=1)
    with torch.device("meta"):
        names = official_names(Beit3Model(smallest), RENAMES).values()
    advice = "" if any(name in state for name in HEADS) else '; without retrieval heads it can give outputs = "fused"'
    check_names(state, names, checkpoint=checkpoint, kind="BEiT-3", advice=advice)


def _read_shape(state: State, given: Mapping[str, int | None]) -> Beit3Shape:
    dim = state["beit3.vision_embed.cls_token"].shape[-1]
    patch = square_patch(state["beit3.vision_embed.proj.weight"], given.get("patch"))
    side = grid_side(len(state[_IMAGE_POSITIONS]) - FIRST - 1)
    return Beit3Shape(
        dim=dim,
        layers=count_layers(state, _LAYERS),
        heads=head_count(dim, given.get("heads")),
        ffn=len(state["beit3.encoder.layers.0.ffn.A.fc1.weight"]),
        projection=len(state[HEADS[0]]) if HEADS[0] in state else None,
        vocabulary=len(state["beit3.text_embed.weight"]),
        image_size=image_size(given.get("image_size"), patch, default=side * patch),
        patch=patch,
        text_rows=len(state[_TEXT_POSITIONS]),
    )
