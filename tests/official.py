"""Checkpoints in the official layouts, of any size, with weights from a formula: no random generator is involved."""

from __future__ import annotations

import zlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


def beit3_shapes(*, dim: int, layers: int, ffn: int, side: int, patch: int, vocabulary: int, rows: int) -> Shapes:
    """The names and shapes of a BEiT-3 retrieval checkpoint, as the official files have them."""
    shapes: dict[str, tuple[int, ...]] = {
        "beit3.text_embed.weight": (vocabulary, dim),
        "beit3.vision_embed.cls_token": (1, 1, dim),
        "beit3.vision_embed.mask_token": (1, 1, dim),
        "beit3.vision_embed.proj.weight": (dim, 3, patch, patch),
        "beit3.vision_embed.proj.bias": (dim,),
        "beit3.encoder.embed_positions.A.weight": (side**2 + 3, dim),
        "beit3.encoder.embed_positions.B.weight": (rows, dim),
        "vision_head.weight": (dim, dim),
        "language_head.weight": (dim, dim),
        "logit_scale": (),
    }
    for kind in "AB":
        shapes |= _pair(f"beit3.encoder.layer_norm.{kind}", (dim,))
        for layer in range(layers):
            prefix = f"beit3.encoder.layers.{layer}."
            for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
                shapes |= _pair(f"{prefix}self_attn.{name}.{kind}", (dim, dim))
            for name in ("self_attn.inner_attn_ln", "self_attn_layer_norm", "final_layer_norm"):
                shapes |= _pair(f"{prefix}{name}.{kind}", (dim,))
            shapes |= _pair(f"{prefix}ffn.{kind}.fc1", (ffn, dim)) | _pair(f"{prefix}ffn.{kind}.fc2", (dim, ffn))
            shapes |= _pair(f"{prefix}ffn.{kind}.ffn_layernorm", (ffn,))
    return shapes


def vlmo_shapes(
    *, dim: int, layers: int, heads: int, ffn: int, side: int, patch: int, vocabulary: int, rows: int, vl_start: int,
    reach: int | None = 196, layer_scale: bool = True,
) -> Shapes:  # fmt: skip
    """The names and shapes of a VLMo checkpoint, as the official files have them; no reach: absolute positions."""
    shapes: dict[str, tuple[int, ...]] = {
        "text_embeddings.word_embeddings.weight": (vocabulary, dim),
        "text_embeddings.position_embeddings.weight": (rows, dim),
        "text_embeddings.token_type_embeddings.weight": (2, dim),
        "token_type_embeddings.weight": (2, dim),
        "transformer.cls_token": (1, 1, dim),
        "transformer.patch_embed.proj.weight": (dim, 3, patch, patch),
        "transformer.patch_embed.proj.bias": (dim,),
        "logit_scale": (),
        "logit_vl_scale": (),
    }
    for head in ("itc_text", "itc_image", "itc_vl_text", "itc_vl_image"):
        shapes[f"{head}_proj.fc.weight"] = (dim, dim)
    shapes |= _pair("pooler.dense", (dim, dim)) | _pair("transformer.norm", (dim,))
    shapes |= _pair("text_embeddings.LayerNorm", (dim,))
    if reach is None:
        shapes["transformer.pos_embed"] = (1, side**2 + 1, dim)
    else:
        shapes["relative_position_bias_table"] = ((2 * side - 1) ** 2 + 2 * reach + 5, layers * heads)
    for layer in range(layers):
        prefix = f"transformer.blocks.{layer}."
        shapes |= _pair(f"{prefix}norm1", (dim,)) | _pair(f"{prefix}attn.proj", (dim, dim))
        shapes |= {f"{prefix}attn.qkv.weight": (3 * dim, dim)}
        shapes |= {f"{prefix}attn.q_bias": (dim,), f"{prefix}attn.v_bias": (dim,)}
        for kind in ("text", "imag", *(["vl"] if layer >= vl_start else [])):
            shapes |= _pair(f"{prefix}norm2_{kind}", (dim,))
            shapes |= _pair(f"{prefix}mlp_{kind}.fc1", (ffn, dim)) | _pair(f"{prefix}mlp_{kind}.fc2", (dim, ffn))
        if layer_scale:
            shapes |= {f"{prefix}gamma_1": (dim,), f"{prefix}gamma_2": (dim,)}
    return shapes


def _pair(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": (shape[0],)}


def by_formula(shapes: Shapes) -> dict[str, Tensor]:
    """Weights of these names and shapes: sines, around 1 for norms, of a scale that lets no layer saturate."""
    return {name: torch.from_numpy(np.asarray(_sines(name, shape))) for name, shape in shapes.items()}


def _sines(name: str, shape: tuple[int, ...]) -> np.ndarray:
    phase = zlib.crc32(name.encode()) % 6283 / 1000
    waves = _chirp(phase, int(np.prod(shape))).reshape(shape)
    if len(shape) == 1:
        around = 1.0 if name.endswith("weight") else 0.6 if "gamma" in name else 0.0
        return (around + 0.3 * waves).astype(np.float32)
    fan_in = np.prod(shape[1:]) if len(shape) > 1 else 1
    table = "embed" in name or "bias_table" in name or "token" in name
    return (waves if table and "proj" not in name else waves * 1.7 / np.sqrt(fan_in)).astype(np.float32)


def _chirp(phase: float, length: int) -> np.ndarray:
    """Numbers from -1 to 1 without a period."""
    places = np.arange(1, length + 1)
    return np.sin(phase + 1.7 * places + 0.0013 * places**2)


def images(batch: int, size: int) -> Tensor:
    """Pixels from the same formula."""
    return torch.from_numpy(_chirp(0.0, batch * 3 * size * size).reshape(batch, 3, size, size)).float()


def sentences(lengths: list[int], width: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Token ids and the mask of texts of the given lengths, padded with 1 to `width`."""
    mask = torch.arange(width)[None] < torch.tensor(lengths)[:, None]
    ids = (torch.arange(len(lengths) * width).reshape(-1, width) * 7 + 3) % vocabulary
    return torch.where(mask, ids, 1), mask
