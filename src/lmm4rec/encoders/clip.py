"""CLIP: pictures and words in one space, from two streams."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.core.files import read_json, write_json
from lmm4rec.core.types import Inputs, Item, Modality, NonNegativeInt, PositiveInt
from lmm4rec.encoders.base import Encoder, check_weights, stack_pixels
from lmm4rec.nn.pixels import fit_and_crop, to_tensor

__all__ = ["Clip", "write_tiny_checkpoint"]

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
_SETTINGS = "lmm4rec.json"
_WAY = {"do_resize": True, "resample": 3, "do_center_crop": True, "do_rescale": True, "do_normalize": True}


class Clip(Encoder):
    """CLIP (Radford et al. 2021, arXiv 2103.00020), through transformers.

    `checkpoint` is a local folder in the Hugging Face layout or a hub name such as "openai/clip-vit-base-patch16".
    Vectors are the projections of both towers, L2-normalized (fig. 3). Text is cut by tokens, its end token kept.
    """

    separable = True

    def __init__(
        self,
        *,
        checkpoint: str,
        text: str = "{title}. {description}",
        outputs: Literal["image+text", "image", "text"] = "image+text",
    ) -> None:
        """Raises ConfigError where there is no CLIP under `checkpoint`, MissingExtraError without transformers."""
        super().__init__()
        transformers = _transformers()
        loading = {"dtype": torch.float32, "output_loading_info": True}
        self.model: Any
        try:
            self.model, info = transformers.CLIPModel.from_pretrained(checkpoint, **loading)
            self.tokenizer: Any = transformers.CLIPTokenizer.from_pretrained(checkpoint)
            pictures, _ = transformers.CLIPImageProcessorPil.get_image_processor_dict(checkpoint)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"no CLIP under checkpoint '{checkpoint}': give a folder with config.json, model.safetensors, "
                "preprocessor_config.json and the tokenizer, or a hub name where there is a network "
                f"({str(error).splitlines()[0]})"
            ) from error
        check_weights(checkpoint, info["missing_keys"])
        self.text, self.outputs = text, outputs
        self.dims = dict.fromkeys(outputs.split("+"), int(self.model.config.projection_dim))
        self.text_len = int(self.model.config.text_config.max_position_embeddings)
        self.preprocessing = _preprocessing(checkpoint, pictures)

    @property
    def logit_scale(self) -> Tensor:
        """The learned log of the inverse temperature."""
        scale: Tensor = self.model.logit_scale
        return scale

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """Pixels after resizing and cropping, and token ids, padded with 0 to the longest text."""
        pixels, has_image = stack_pixels(items, self._to_pixels) if "image" in self.dims else (None, None)
        ids, mask = self._tokenize([self.read(item) for item in items]) if "text" in self.dims else (None, None)
        return Inputs(pixels, ids, mask, has_image)

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """Unit vectors of the pictures and the words."""
        vectors: dict[Modality, Tensor] = {}
        if "image" in self.dims:
            vectors["image"] = self.model.get_image_features(pixel_values=inputs.pixels).pooler_output
        if "text" in self.dims:
            ids, mask = _never_empty(inputs, self.tokenizer)
            features = self.model.get_text_features(input_ids=ids, attention_mask=mask)
            vectors["text"] = features.pooler_output
        return {modality: F.normalize(rows, dim=1) for modality, rows in vectors.items()}

    def settings(self) -> dict[str, object]:
        """Template, outputs, preprocessing and vocabulary."""
        return {
            "text": self.text,
            "outputs": self.outputs,
            "preprocessing": self.preprocessing,
            "vocabulary": self.tokenizer.get_vocab(),
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder as a folder in the Hugging Face layout, which any tool of that family reads."""
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        write_json(Path(folder) / "preprocessor_config.json", _as_hugging_face(self.preprocessing))
        write_json(Path(folder) / _SETTINGS, {"encoder": "clip", "text": self.text, "outputs": self.outputs})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Clip:
        """The encoder in a folder written by `save_pretrained`."""
        settings = read_json(Path(folder) / _SETTINGS)
        return cls(checkpoint=str(folder), text=settings["text"], outputs=settings["outputs"])

    def _to_pixels(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        fitted = fit_and_crop(image, self.preprocessing["shortest_edge"], tuple(self.preprocessing["crop"]))
        return to_tensor(fitted, self.preprocessing["mean"], self.preprocessing["std"])

    def _tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        clean = [_clean(text) for text in texts]
        encoded = self.tokenizer(clean, truncation=True, max_length=self.text_len)["input_ids"]
        width = max(len(ids) for ids in encoded)
        ids = torch.zeros(len(texts), width, dtype=torch.int64)
        mask = torch.zeros(len(texts), width, dtype=torch.bool)
        for row, (text, tokens) in enumerate(zip(texts, encoded, strict=True)):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = bool(text)
        return ids, mask


def write_tiny_checkpoint(
    folder: str | Path,
    texts: Sequence[str],
    *,
    seed: NonNegativeInt = 0,
    image_size: PositiveInt = 64,
    patch: PositiveInt = 16,
    dim: PositiveInt = 96,
    layers: PositiveInt = 2,
    projection_dim: PositiveInt = 64,
    vocabulary: PositiveInt = 2000,
    text_len: PositiveInt = 48,
) -> None:
    """Write a small untrained CLIP in the Hugging Face layout, its byte-pair vocabulary learned from `texts`.

    It is meant for catalogs to pre-train on where no released weights are at hand, and for tests.
    """
    transformers = _transformers()
    tokenizer = _train_tokenizer(transformers, texts, vocabulary)
    shared = {
        "hidden_size": dim,
        "intermediate_size": 4 * dim,
        "num_hidden_layers": layers,
        "num_attention_heads": dim // 32,
    }
    special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = transformers.CLIPConfig(
        text_config={**shared, **special, "vocab_size": len(tokenizer), "max_position_embeddings": text_len},
        vision_config={**shared, "image_size": image_size, "patch_size": patch},
        projection_dim=projection_dim,
    )
    with torch.random.fork_rng():  # transformers draws first weights from the global generator
        torch.manual_seed(seed)
        model = transformers.CLIPModel(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    preprocessing = {
        "shortest_edge": image_size,
        "crop": [image_size, image_size],
        "mean": list(MEAN),
        "std": list(STD),
    }
    write_json(Path(folder) / "preprocessor_config.json", _as_hugging_face(preprocessing))


def _transformers() -> Any:
    return optional("transformers", extra="transformers", purpose="the encoder 'clip'")


def _train_tokenizer(transformers: Any, texts: Sequence[str], size: int) -> Any:
    """CLIP's own tokenizer class over a byte-pair vocabulary learned from the texts."""
    tokenizers = optional("tokenizers", extra="transformers", purpose="the encoder 'clip'")
    blank = transformers.CLIPTokenizer()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[blank.bos_token, blank.eos_token],
        end_of_word_suffix="</w>",
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learner = tokenizers.Tokenizer(tokenizers.models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = blank.backend_tokenizer.normalizer
    learner.pre_tokenizer = blank.backend_tokenizer.pre_tokenizer
    learner.train_from_iterator(texts, trainer)
    learned = json.loads(learner.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    return transformers.CLIPTokenizer(vocab=learned["vocab"], merges=merges)


def _clean(text: str) -> str:
    """What the original tokenizer does first: mend broken Unicode and curly quotes, resolve HTML entities."""
    fix = optional("ftfy", extra="transformers", purpose="the encoder 'clip'").fix_text
    return html.unescape(html.unescape(fix(text))).strip()


def _never_empty(inputs: Inputs, tokenizer: Any) -> tuple[Tensor, Tensor]:
    """Ids and mask in which a row without words is the empty sentence: attention over nothing would be NaN."""
    if inputs.text_ids is None or inputs.text_mask is None:
        raise ConfigError("the encoder's outputs name text, but the inputs have no text_ids and text_mask")
    empty = ~inputs.text_mask.any(dim=1)
    if not empty.any():
        return inputs.text_ids, inputs.text_mask
    ids, mask = inputs.text_ids.clone(), inputs.text_mask.clone()
    ids[empty, 0], mask[empty, 0] = tokenizer.eos_token_id, True
    return ids, mask


def _preprocessing(checkpoint: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes and scales from the checkpoint's own description of how pictures are prepared."""
    size, crop = given["size"], given["crop_size"]
    size = size if isinstance(size, Mapping) else {"shortest_edge": size}  # one number in older checkpoints
    crop = crop if isinstance(crop, Mapping) else {"height": crop, "width": crop}
    other = [f"{key} = {given[key]}" for key, way in _WAY.items() if given.get(key, way) != way]
    if "shortest_edge" not in size:
        other.append(f"size = {size}")
    if other:
        raise ConfigError(
            f"checkpoint '{checkpoint}' prepares pictures with {', '.join(other)}; the encoder 'clip' does it as CLIP: "
            "bicubic to the shortest edge, center crop, mean and standard deviation"
        )
    return {
        "shortest_edge": size["shortest_edge"],
        "crop": [crop["height"], crop["width"]],
        "mean": given["image_mean"],
        "std": given["image_std"],
    }


def _as_hugging_face(preprocessing: Mapping[str, Any]) -> dict[str, Any]:
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
