"""The original layout of CLIP's files: weights and their names in transformers, preprocessing, and merges.

Only tensors and text: `checkpoint` builds the model.
"""

from __future__ import annotations

import gzip
import logging
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.nn.transformers.checkpoint_sizes import grid_side
from lmm4rec.nn.transformers.checkpoints import read_state

Weights = dict[str, Tensor]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
_STEPS = {"do_resize": True, "resample": 3, "do_center_crop": True, "do_rescale": True, "do_normalize": True}
_BUFFERS = ("input_resolution", "context_length", "vocab_size")
_RELEASED_WIDTHS = {(768, 512), (1024, 768)}  # of image and text tower, with heads of 64
_BLOCK_PARTS = {
    "attn.out_proj": "self_attn.out_proj",
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_PLAIN = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_TRANSPOSED = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_TOWERS = {"visual.transformer": "vision_model.encoder", "transformer": "text_model.encoder"}


def read_weights(file: Path) -> Weights:
    """The tensors of a TorchScript archive, a state dict or a `.safetensors` file, in float32.

    Raises:
        ConfigError: the file holds something else.
    """
    if not _is_scripted(file):
        return read_state(file)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the released files
        state = torch.jit.load(file, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    return {name: value.float() for name, value in state.items()}


def _is_scripted(file: Path) -> bool:
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def missing_names(weights: Weights) -> list[str]:
    """The names of a vision-transformer CLIP of this depth that `weights` lacks."""
    return [name for name in _needed(weights) if name not in weights]


def check_kind(weights: Weights, file: Path) -> None:
    """Refuse a CLIP that is not a vision transformer; log extra weights, which are ignored.

    Raises:
        ConfigError: the image side is a ResNet.
    """
    if any(name.startswith(("visual.layer1.", "visual.attnpool.")) for name in weights):
        raise ConfigError(f"{file} is a ResNet CLIP; the encoder 'clip' takes those with a vision transformer (ViT)")
    extra = sorted(set(weights) - set(_needed(weights)) - set(_BUFFERS))
    if extra:
        log = logging.getLogger(__name__)
        log.info("%s: ignored %d weights that CLIP does not use: %s", file.name, len(extra), ", ".join(extra))


def architecture(
    weights: Weights, *, heads: int | None = None, text_heads: int | None = None, activation: str | None = None
) -> dict[str, Any]:
    """The keyword arguments of transformers' `CLIPConfig` for these weights: sizes from shapes, heads as given.

    Raises:
        ConfigError: heads or activation are neither given nor known, heads do not divide a width, or patches are not a
            square.
    """
    width, _, patch, _ = weights["visual.conv1.weight"].shape
    vocabulary, text_width = weights["token_embedding.weight"].shape
    if activation is None and all(name in weights for name in _BUFFERS):  # the authors' own files hold these numbers
        activation = "quick_gelu"
    heads_known = heads or (width, text_width) in _RELEASED_WIDTHS
    if wanted := [key for key, known in (("heads", heads_known), ("activation", activation)) if not known]:
        raise ConfigError(
            f"give {' and '.join(wanted)}: the weights of this file, {width} wide for images and {text_width} for "
            "text, do not tell them. The authors' CLIPs have activation = 'quick_gelu', most of OpenCLIP's 'gelu'; "
            "OpenCLIP's ViT-H/14 has heads = 16"
        )
    towers = {
        tower: {
            "hidden_size": size,
            "intermediate_size": len(weights[f"{tower}.resblocks.0.mlp.c_fc.weight"]),
            "num_hidden_layers": _depth(weights, tower),
            "num_attention_heads": _heads(size, given or size // 64, key),
            "hidden_act": activation,
        }
        for tower, size, given, key in (
            ("visual.transformer", width, heads, "heads"),
            ("transformer", text_width, text_heads or heads, "text_heads"),
        )
    }
    grid = grid_side(len(weights["visual.positional_embedding"]) - 1)
    # With eos_token_id = 2 transformers takes a text's feature at its highest id, as the original code does, whatever
    # the vocabulary; any other value makes it look for that very id.
    text = {"vocab_size": vocabulary, "max_position_embeddings": len(weights["positional_embedding"])}
    special = {"bos_token_id": max(vocabulary - 2, 0), "eos_token_id": 2, "pad_token_id": 0}
    return {
        "vision_config": {**towers["visual.transformer"], "patch_size": patch, "image_size": grid * patch},
        "text_config": {**towers["transformer"], **text, **special},
        "projection_dim": weights["text_projection"].shape[1],
    }


def rename(weights: Weights) -> Weights:
    """The weights under the names of transformers' `CLIPModel`."""
    renamed = {new: weights[old] for old, new in _PLAIN.items()}
    renamed |= {new: weights[old].T.contiguous() for old, new in _TRANSPOSED.items()}
    for tower, encoder in _TOWERS.items():
        for layer in range(_depth(weights, tower)):
            old, new = f"{tower}.resblocks.{layer}", f"{encoder}.layers.{layer}"
            for kind in ("weight", "bias"):
                joint = weights[f"{old}.attn.in_proj_{kind}"].chunk(3)
                for letter, part in zip("qkv", joint, strict=True):
                    renamed[f"{new}.self_attn.{letter}_proj.{kind}"] = part.contiguous()
                for old_part, new_part in _BLOCK_PARTS.items():
                    renamed[f"{new}.{new_part}.{kind}"] = weights[f"{old}.{old_part}.{kind}"]
    return renamed


def read_merges(file: Path, vocabulary: int) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The vocabulary and merges of the original tokenizer, from its file `bpe_simple_vocab_16e6.txt.gz`.

    Ids in order: the 256 bytes, the 256 bytes that end a word, one for each merge, start and end. The file holds more
    merges than CLIP uses: the first (`vocabulary` - 514) count, 48,894 in the released models.

    Raises:
        ConfigError: the file is missing or too short, or a vocabulary of that size has no room for bytes and ends.
    """
    if not file.is_file():
        raise ConfigError(f"there is no tokenizer {file}; give the original bpe_simple_vocab_16e6.txt.gz")
    packed = file.read_bytes()
    content = (gzip.decompress(packed) if file.suffix == ".gz" else packed).decode("utf-8").split("\n")
    letters = _byte_letters()
    count = vocabulary - 2 * len(letters) - 2
    merges = [(first, second) for first, _, second in (line.partition(" ") for line in content[1 : count + 1])]
    if count < 0 or len(merges) < count or not all(second for _, second in merges):
        raise ConfigError(
            f"{file} does not fit a vocabulary of {vocabulary:,} tokens: after its first line it must hold "
            f"{max(count, 0):,} merges, and the vocabulary at least 514 tokens"
        )
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), *map("".join, merges)]
    return {token: row for row, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}, merges


def preprocessing(image_size: int) -> dict[str, Any]:
    """The sizes and scales of the original preprocessing."""
    return {"shortest_edge": image_size, "crop": [image_size, image_size], "mean": list(MEAN), "std": list(STD)}


def preprocessing_of(checkpoint: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes and scales from the content of a checkpoint's preprocessor_config.json.

    Raises:
        ConfigError: it prepares images differently from CLIP.
    """
    size, crop = given["size"], given["crop_size"]
    size = size if isinstance(size, Mapping) else {"shortest_edge": size}  # a number in older checkpoints
    crop = crop if isinstance(crop, Mapping) else {"height": crop, "width": crop}
    other = [f"{key} = {given[key]}" for key, value in _STEPS.items() if given.get(key, value) != value]
    if "shortest_edge" not in size:
        other.append(f"size = {size}")
    if other:
        raise ConfigError(
            f"checkpoint '{checkpoint}' prepares images with {', '.join(other)}; the encoder 'clip' prepares them as "
            "CLIP: bicubic to the shortest edge, center crop, mean and standard deviation"
        )
    return {
        "shortest_edge": size["shortest_edge"],
        "crop": [crop["height"], crop["width"]],
        "mean": given["image_mean"],
        "std": given["image_std"],
    }


def as_hugging_face(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
    """The same as the content of a preprocessor_config.json."""
    height, width = preprocessing["crop"]
    return {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": preprocessing["shortest_edge"]},
        "do_center_crop": True,
        "crop_size": {"height": height, "width": width},
        "image_mean": preprocessing["mean"],
        "image_std": preprocessing["std"],
        "resample": 3,
    }


def _byte_letters() -> list[str]:
    """The visible letters that stand for the 256 bytes: the byte itself, or for those unseen the next from U+0100."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [*map(chr, seen), *(chr(0x100 + number) for number in range(256 - len(seen)))]


def _needed(weights: Weights) -> list[str]:
    parts = [f"{part}.{kind}" for part in _BLOCK_PARTS for kind in ("weight", "bias")]
    blocks = [
        f"{tower}.resblocks.{layer}.{part}"
        for tower in _TOWERS
        for layer in range(_depth(weights, tower))
        for part in ("attn.in_proj_weight", "attn.in_proj_bias", *parts)
    ]
    return [*_PLAIN, *_TRANSPOSED, *blocks]


def _depth(weights: Weights, tower: str) -> int:
    """The number of blocks; one where there is none, so that its names are reported missing."""
    pattern = re.compile(rf"{re.escape(tower)}\.resblocks\.(\d+)\.")
    return max([0, *(int(found[1]) for found in map(pattern.match, weights) if found)]) + 1


def _heads(width: int, heads: int, key: str) -> int:
    if width % heads:
        raise ConfigError(f"{key} = {heads} do not divide the width of {width}")
    return heads
