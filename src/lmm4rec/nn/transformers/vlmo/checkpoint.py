"""Official checkpoints of VLMo: names of weights, and sizes read from their shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch

from lmm4rec.core.errors import ConfigError
from lmm4rec.nn.transformers.checkpoint_sizes import grid_side, head_count, image_size, square_patch
from lmm4rec.nn.transformers.checkpoints import State, check_names, count_layers, load_state, official_names
from lmm4rec.nn.transformers.position_tables import bias_table_rows, resize_bias, resize_positions, square_side
from lmm4rec.nn.transformers.vlmo.network import INITIAL_REACH, VlmoModel, VlmoShape

ITC = ("itc_image_proj.fc.weight", "itc_text_proj.fc.weight", "logit_scale")
VL = ("itc_vl_image_proj.fc.weight", "itc_vl_text_proj.fc.weight", "logit_vl_scale")
POOLER = ("pooler.dense.weight", "pooler.dense.bias")
ITM = ("itm_score.fc.weight", "itm_score.fc.bias")

_LAYERS, _VL_LAYERS = r"transformer\.blocks\.(\d+)\.", r"transformer\.blocks\.(\d+)\.(?:mlp|norm2)_vl\."
_BIAS_TABLE, _IMAGE_POSITIONS = "relative_position_bias_table", "transformer.pos_embed"
_TEXT_POSITIONS = "text_embeddings.position_embeddings.weight"

RENAMES = (
    (r"^blocks\.", "transformer.blocks."),
    (r"\.attention_norm\.any\.", ".norm1."), (r"\.attention\.out\.any\.", ".attn.proj."),
    (r"\.attention\.project\.weight$", ".attn.qkv.weight"), (r"\.attention\.project\.", ".attn."),
    (r"\.ffn_norm\.", ".norm2_"), (r"\.ffn\.", ".mlp_"), (r"\b(norm2|mlp)_image\.", r"\1_imag."),
    (r"^norm\.", "transformer.norm."), (r"^image_positions$", _IMAGE_POSITIONS),
    (r"^patches\.cls_token$", "transformer.cls_token"), (r"^patches\.", "transformer.patch_embed."),
    (r"^words\.", "text_embeddings.word_embeddings."), (r"^text_positions\.", "text_embeddings.position_embeddings."),
    (r"^text_types\.", "text_embeddings.token_type_embeddings."), (r"^text_norm\.", "text_embeddings.LayerNorm."),
    (r"^types\.", "token_type_embeddings."), (r"^bias_table$", _BIAS_TABLE),
    (r"^itc_image\.", "itc_image_proj.fc."), (r"^itc_text\.", "itc_text_proj.fc."),
    (r"^vl_image\.", "itc_vl_image_proj.fc."), (r"^vl_text\.", "itc_vl_text_proj.fc."), (r"^pooler\.", "pooler.dense."),
    (r"^itm\.", "itm_score.fc."),
)  # fmt: skip
"""Replacements that turn the names here into the official ones."""


def load_vlmo(
    state: State,
    *,
    checkpoint: str,
    needs: Sequence[str],
    given: Mapping[str, int | None],
    drop_path: float = 0.0,
    checkpointing: bool = False,
) -> VlmoModel:
    """The network of a checkpoint's tensors.

    `needs` names weights of heads that must be there; `given` holds the user's heads, image_size, patch and reach.
    Positions are interpolated to another image_size.

    Raises:
        ConfigError: weights are missing or do not fit, or contradict `given`.
    """
    _check(state, checkpoint=checkpoint, needs=needs)
    patch = square_patch(state["transformer.patch_embed.proj.weight"], given.get("patch"))
    before, reach = _read_grid(state, given, patch)
    shape = _read_shape(state, given, patch, before, reach)
    if shape.absolute:
        table = resize_positions(state[_IMAGE_POSITIONS][0], extra=1, side=shape.side)
        state = state | {_IMAGE_POSITIONS: table[None]}
    if shape.reach is not None:
        state = state | {_BIAS_TABLE: resize_bias(state[_BIAS_TABLE], before=before, side=shape.side)}
    with torch.device("meta"):
        model = VlmoModel(shape, drop_path=drop_path, checkpointing=checkpointing)
    load_state(model, state, RENAMES, checkpoint=checkpoint, kind="VLMo")
    return model


def _check(state: State, *, checkpoint: str, needs: Sequence[str]) -> None:
    """Refuse missing weights, before sizes are read from those that are there."""
    layers = max(count_layers(state, _LAYERS), 1)
    has = {name: any(key in state or key in needs for key in name) for name in (ITC, VL, POOLER)}
    with_bias, with_positions = _BIAS_TABLE in state, _IMAGE_POSITIONS in state
    smallest = VlmoShape(
        dim=1, layers=layers, heads=1, ffn=1, vl_start=_vl_start(state, layers),
        reach=2 if with_bias or not with_positions else None,
        absolute=with_positions or not with_bias, layer_scale=any(".gamma_" in name for name in state),
        itc=1 if has[ITC] else None, vl=1 if has[VL] else None, pooler=1 if has[POOLER] else None,
        vocabulary=1, image_size=1, patch=1, text_rows=1,
        itm=any(name in state for name in ITM),
    )  # fmt: skip
    with torch.device("meta"):
        names = official_names(VlmoModel(smallest), RENAMES).values()
    check_names(state, names, checkpoint=checkpoint, kind="VLMo")


def _vl_start(state: State, layers: int) -> int:
    found = (re.match(_VL_LAYERS, name) for name in state)
    return min((int(match[1]) for match in found if match), default=layers)


def _read_grid(state: State, given: Mapping[str, int | None], patch: int) -> tuple[int, int | None]:
    """The number of patches along one side of the checkpoint's images, and the reach of its bias table.

    A bias table has (2 side - 1)² + 2 reach + 5 rows, which does not determine both. The side follows from absolute
    positions or the official code's index where they are there; else from the given or the official reach, where that
    leaves a square; else from the given image_size.

    Raises:
        ConfigError: none of these determines it.
    """
    side = None
    if _IMAGE_POSITIONS in state:
        side = grid_side(state[_IMAGE_POSITIONS].shape[1] - 1)
    elif "relative_position_index" in state:
        side = grid_side(len(state["relative_position_index"]) - 1)
    if _BIAS_TABLE not in state:
        return side or 0, None
    rows, reach = len(state[_BIAS_TABLE]), given.get("reach")
    if side is None:
        width = square_side(rows - bias_table_rows(side=1, reach=reach or INITIAL_REACH) + 1) or 0
        side = (width + 1) // 2 if width % 2 else (given.get("image_size") or 0) // patch
    found = (rows - bias_table_rows(side=max(side, 1), reach=0)) // 2
    if side < 1 or found < 1 or reach not in (None, found) or bias_table_rows(side=side, reach=found) != rows:
        raise ConfigError(
            f"the relative position bias table of {rows} rows fits no image size"
            + (f" with reach = {reach}" if reach else f" with the official reach of {INITIAL_REACH} tokens")
            + "; give the image_size of the checkpoint, or as reach the text length of its table"
        )
    return side, found


def _read_shape(state: State, given: Mapping[str, int | None], patch: int, before: int, reach: int | None) -> VlmoShape:
    dim, layers = state["transformer.cls_token"].shape[-1], count_layers(state, _LAYERS)
    known = None
    if reach is not None:
        columns = state[_BIAS_TABLE].shape[1]
        if columns % layers:
            raise ConfigError(f"the relative position bias table has {columns} columns, no multiple of {layers} layers")
        known = columns // layers

    def width(name: str) -> int | None:
        return len(state[name]) if name in state else None

    return VlmoShape(
        dim=dim, layers=layers, heads=head_count(dim, given.get("heads"), known),
        ffn=len(state["transformer.blocks.0.mlp_text.fc1.weight"]), vl_start=_vl_start(state, layers), reach=reach,
        absolute=_IMAGE_POSITIONS in state, layer_scale=any(".gamma_" in name for name in state),
        itc=width(ITC[0]), vl=width(VL[0]), pooler=width(POOLER[0]),
        vocabulary=len(state["text_embeddings.word_embeddings.weight"]),
        image_size=image_size(given.get("image_size"), patch, default=before * patch), patch=patch,
        text_rows=len(state[_TEXT_POSITIONS]), types=len(state["token_type_embeddings.weight"]),
        itm=ITM[0] in state,
    )  # fmt: skip
