"""Checkpoints of CLIP, folders and original files: model, tokenizer and image preprocessing of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.nn.transformers.activations import use_quick_gelu
from lmm4rec.nn.transformers.checkpoints import check_weights
from lmm4rec.nn.transformers.clip import original_layout
from lmm4rec.nn.transformers.hugging_face import load_model, loading, transformers_library
from lmm4rec.nn.transformers.position_tables import resize_positions

MERGES = "bpe_simple_vocab_16e6.txt.gz"
_LEAST_VOCABULARY = 256  # every byte has its token


def open_folder(checkpoint: str) -> tuple[Any, Any, dict[str, Any]]:
    """Model, tokenizer and preprocessing of a checkpoint in the Hugging Face layout."""
    expected = (
        "a folder with config.json, model.safetensors, preprocessor_config.json and the tokenizer, a file in the "
        "original layout"
    )
    with loading(checkpoint, kind="CLIP", expected=expected) as source:
        transformers = transformers_library("clip")
        model, missing = load_model(transformers.CLIPModel, source)
        tokenizer = transformers.CLIPTokenizer.from_pretrained(source)
        images, _ = transformers.CLIPImageProcessorPil.get_image_processor_dict(source)
        if len(tokenizer) < _LEAST_VOCABULARY:  # a stub, in which all texts are the same
            raise OSError("its tokenizer is missing: tokenizer.json, or vocab.json and merges.txt")
    check_weights(checkpoint, missing)
    return model, tokenizer, original_layout.preprocessing_of(checkpoint, images)


def model_of_file(file: Path, options: Mapping[str, Any]) -> Any:
    """transformers' model with the weights of a file in the original layout."""
    transformers = transformers_library("clip")
    weights = original_layout.read_weights(file)
    original_layout.check_kind(weights, file)
    check_weights(str(file), original_layout.missing_names(weights))
    config = transformers.CLIPConfig(**original_layout.architecture(weights, **options))
    try:
        model = transformers.CLIPModel.from_pretrained(
            None, config=config, state_dict=original_layout.rename(weights), dtype=torch.float32
        )
    except RuntimeError as error:
        raise ConfigError(f"the shapes of the weights in {file} do not fit together: {error}") from error
    use_quick_gelu(model)
    return model


def tokenizer_of_file(file: Path, given: str | None, vocabulary: int) -> Any:
    """The original tokenizer, from the given file or the one beside the checkpoint; None where there is neither."""
    merges_file = Path(given) if given else file.with_name(MERGES)
    if not given and not merges_file.exists():
        return None  # only `prepare` needs it, and raises without
    vocabulary_ids, merges = original_layout.read_merges(merges_file, vocabulary)
    return transformers_library("clip").CLIPTokenizer(vocab=vocabulary_ids, merges=merges)


def check_given(checkpoint: str, config: Any, given: Mapping[str, object]) -> None:
    """Refuse parameters that contradict the checkpoint."""
    image, text = config.vision_config, config.text_config
    has = {"heads": image.num_attention_heads, "text_heads": text.num_attention_heads, "patch": image.patch_size}
    has["activation"] = image.hidden_act
    if Path(checkpoint).is_file():
        has["tokenizer"] = given["tokenizer"]
    for key, value in given.items():
        if value is not None and value != has.get(key):
            own = has.get(key, "the one in its folder")
            raise ConfigError(f"{key} = {value}, but that of checkpoint '{checkpoint}' is {own}; leave it out")


def resize_images(model: Any, image_size: int) -> None:
    """Adapt the model to images of another size."""
    config, embeddings = model.config.vision_config, model.vision_model.embeddings
    if image_size < config.patch_size:
        raise ConfigError(f"image_size = {image_size} is less than one patch of {config.patch_size}")
    table = resize_positions(
        embeddings.position_embedding.weight.detach(), extra=1, side=image_size // config.patch_size
    )
    embeddings.position_embedding = nn.Embedding(len(table), table.shape[1], _weight=table)
    embeddings.position_ids = torch.arange(len(table))[None]
    embeddings.num_patches, embeddings.num_positions = len(table) - 1, len(table)
    embeddings.image_size = config.image_size = image_size


def train_tokenizer(transformers: Any, texts: Sequence[str], size: int) -> Any:
    """CLIP's own tokenizer class over a byte-pair vocabulary learned from the texts."""
    tokenizers = optional("tokenizers", extra="transformers", purpose="the encoder 'clip'")
    blank = transformers.CLIPTokenizer()
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        # the trainer numbers letters at the end of words in no fixed order, so they are listed; the original has them
        special_tokens=[blank.bos_token, blank.eos_token, *(f"{letter}</w>" for letter in letters)],
        end_of_word_suffix="</w>",
        initial_alphabet=letters,
        show_progress=False,
    )
    learner = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = blank.backend_tokenizer.normalizer
    learner.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    return transformers.CLIPTokenizer(vocab=learned["vocab"], merges=merges)
