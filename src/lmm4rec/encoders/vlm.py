"""Vlm: one vector for an image and a text together, from a multimodal language model of the Qwen-VL family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.core.types import Inputs, Item, Modality, NonNegativeInt, PositiveInt
from lmm4rec.encoders.base import FUSED, Encoder, TextLength, TextTemplate, stack_items
from lmm4rec.nn.inputs import mask_empty_rows, pad_tokens, pixels_of, shapes_of, text_of, with_shapes
from lmm4rec.nn.transformers.hugging_face import (
    check_loaded,
    draw_from_seed,
    load_model,
    loading,
    save_parts,
    transformers_library,
)
from lmm4rec.nn.transformers.image_processors import image_processor
from lmm4rec.nn.transformers.towers import BlockEntry, Tower

__all__ = ["Vlm"]

_FAMILIES = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")
_LONGEST_RATIO = 200  # of the sides of an image that the preprocessor takes
_TEXT = "\u2402text\u2403"  # stands for the text in the rendered template
_TEMPLATE = (  # of `write_tiny`
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


class Vlm(Encoder):
    """Embedders on Qwen2-VL, Qwen2.5-VL or Qwen3-VL (Qwen3-VL-Embedding, GME, ...), by local folder or hub name.

    The checkpoint's chat template is filled with the image, the text, or both ("fused", the default: one vector of the
    two), and the vector is the last state at the last token, L2-normalized. `instruction` is a system message (such as
    "Represent the user's input." of Qwen3-VL-Embedding), `ending` follows the template ("<|endoftext|>" for GME). No
    code of the checkpoint is run, and the language head is not loaded. All vectors are in one space.

    An image becomes at most `image_tokens` tokens: it is resized as the checkpoint's preprocessor does, with that many
    pixels. `pixels` holds [patches, values] of an image as one channel.
    """

    separable = True
    joint = True
    saved_options = ("text", "outputs", "image_tokens", "text_len", "instruction", "ending")
    about: ClassVar = {
        "gives": "the fused pair, image and text in one space; Qwen3-VL-Embedding-2B 2048-d",
        "weights": 'a Hugging Face folder or hub name; "tiny" (a small Qwen2-VL)',
        "parameters": "by checkpoint, from 2 billion",
    }

    def __init__(
        self,
        *,
        checkpoint: Annotated[str, Doc("Folder or hub name.")],
        text: TextTemplate = "{title}. {description}",
        outputs: Annotated[
            Literal["fused", "image+text", "image", "text", "image+text+fused"], Doc("Modalities that come out.")
        ] = "fused",
        image_tokens: Annotated[PositiveInt, Doc("Tokens of an image, at most.")] = 256,
        text_len: TextLength = None,
        instruction: Annotated[str, Doc("System message; empty: that of the template, if it has one.")] = "",
        ending: Annotated[str, Doc("What follows the chat template, whose last token is read.")] = "",
    ) -> None:
        """Raises ConfigError where there is no such model under `checkpoint`, MissingExtraError without the extra."""
        super().__init__()
        self.model: Any
        expected = "a folder with config.json, model.safetensors, preprocessor_config.json, tokenizer and chat template"
        with loading(checkpoint, kind="multimodal language model", expected=expected) as source:
            transformers = transformers_library("vlm")
            kind = transformers.AutoConfig.from_pretrained(source).model_type
            if kind not in _FAMILIES:
                raise ConfigError(
                    f"checkpoint '{checkpoint}' is a {kind}; the encoder 'vlm' knows {', '.join(_FAMILIES)}. Use "
                    "'dual' for two towers, 'sentence' for a text model"
                )
            self.model, missing = load_model(transformers.AutoModel, source)
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source)
            self.processor: Any = image_processor(source, encoder="vlm")
        check_loaded(checkpoint, source, missing)
        if not self.tokenizer.chat_template:
            raise ConfigError(f"checkpoint '{checkpoint}' has no chat template; add its chat_template.jinja")
        self.text, self.outputs, self.image_tokens = text, outputs, image_tokens
        self.instruction, self.ending = instruction, ending
        self.text_len = text_len or 512
        self.side = self.processor.patch_size * self.processor.merge_size  # of the square that becomes a token
        self.dims = dict.fromkeys(outputs.split("+"), int(self.model.config.get_text_config().hidden_size))
        self._first = len(getattr(self.model.config.vision_config, "deepstack_visual_indexes", ()))
        layers = (f"language_model.layers.{number}." for number in range(self._first))
        self.below_blocks = {FUSED: ("visual.", "language_model.embed_tokens", *layers)}
        self._parts = {modality: self._rendered(modality) for modality in ("image", "text", FUSED)}

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """The images' patches, and the token ids of the texts alone."""
        return with_shapes(stack_items(self, items, self._to_pixels, self._tokenize))

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The unit vectors of the images, the texts, and the pairs."""
        return {modality: self._vectors(modality, inputs) for modality in self.dims}

    def towers(self) -> Mapping[Modality, Tower]:
        """The language model's blocks, read at the last token.

        Qwen3-VL adds features of the image to the states after its first blocks: its towers begin above them.
        """
        return {modality: self._tower(modality) for modality in self.dims}

    def settings(self) -> dict[str, object]:
        """Template, outputs, recipe, preprocessing, vocabulary and architecture."""
        return {
            "text": self.text,
            "outputs": self.outputs,
            "text_len": self.text_len,
            "image_tokens": self.image_tokens,
            "prompts": self._parts,
            "preprocessing": self.processor.to_json_string(),
            "vocabulary": self.tokenizer.get_vocab(),
            "architecture": self.model.config.to_json_string(),
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder as a folder in the Hugging Face layout."""
        settings = {"encoder": "vlm", **{name: getattr(self, name) for name in self.saved_options}}
        save_parts(folder, (self.model, self.tokenizer, self.processor), settings)

    @classmethod
    def write_tiny(cls, folder: str | Path, texts: Sequence[str], *, seed: NonNegativeInt = 0) -> None:
        """Write a small untrained Qwen2-VL in the Hugging Face layout, its bytes' pairs learned from `texts`."""
        transformers = transformers_library("vlm")
        tokenizer = _train_tokenizer(transformers, texts)
        ids = {name: tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in _SPECIAL}
        config = transformers.Qwen2VLConfig(
            text_config={
                "vocab_size": len(tokenizer), "hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3,
                "num_key_value_heads": 3, "intermediate_size": 192, "bos_token_id": None, "eos_token_id": None,
                "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 6, 6]},
            },
            vision_config={
                "depth": 1, "embed_dim": 64, "hidden_size": 96, "num_heads": 2, "patch_size": 8, "mlp_ratio": 2,
            },
            image_token_id=ids["image_pad"], video_token_id=ids["video_pad"],
            vision_start_token_id=ids["vision_start"], vision_end_token_id=ids["vision_end"],
        )  # fmt: skip
        processor = transformers.Qwen2VLImageProcessorPil(patch_size=8, min_pixels=16**2, max_pixels=16 * 16**2)
        save_parts(folder, (draw_from_seed(lambda: transformers.Qwen2VLModel(config), seed), tokenizer, processor))

    def _rendered(self, modality: Modality) -> tuple[list[int], list[int]]:
        """The tokens before and after the text, the image's one token among those before."""
        content: list[dict[str, str]] = []
        if modality != "text":
            content.append({"type": "image"})
        if modality != "image":
            content.append({"type": "text", "text": _TEXT})
        messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if self.instruction:
            messages.insert(0, {"role": "system", "content": [{"type": "text", "text": self.instruction}]})
        rendered = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        before, _, after = (rendered + self.ending).partition(_TEXT)
        head, tail = (self.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, after))
        return list(head), list(tail)

    def _tower(self, modality: Modality) -> Tower:
        layers = self.model.language_model.layers

        def entered(inputs: Inputs) -> Tensor:
            filled = self._filled(modality, inputs)
            embedded = torch.zeros(
                *filled.ids.shape, self.dims[modality], dtype=self.model.dtype, device=filled.ids.device
            )
            positions = self.model.compute_3d_position_ids(
                inputs_embeds=embedded, video_grid_thw=None, past_key_values=None, **filled.arguments()
            )
            mask = filled.mask.long()
            out = self.model.language_model(
                inputs_embeds=embedded, attention_mask=mask, position_ids=positions, use_cache=False
            )
            return _at_last_token(out.last_hidden_state, filled.mask)

        return Tower(
            list(layers)[self._first :],
            lambda inputs: self._vectors(modality, inputs),
            BlockEntry(layers, entered, first=self._first),
            lambda inputs: self._filled(modality, inputs).mask,
            lambda states, inputs: _last_states(states, self._filled(modality, inputs).mask),
        )

    def _vectors(self, modality: Modality, inputs: Inputs) -> Float[Tensor, "batch dim"]:
        """The states at the last tokens of the filled template."""
        filled, patches = self._filled(modality, inputs), None
        if filled.shapes is not None:
            pixels = pixels_of(inputs)
            real = torch.arange(pixels.shape[2], device=pixels.device) < filled.shapes.prod(dim=1, keepdim=True)
            patches = pixels[:, 0][real]
        out = self.model(pixel_values=patches, use_cache=False, **filled.arguments())
        return _at_last_token(out.last_hidden_state, filled.mask)

    def _filled(self, modality: Modality, inputs: Inputs) -> _Filled:
        """The template's tokens with those of the texts and as many of the images as these have, padded at the end."""
        head, tail = self._parts[modality]
        image, merged = self.model.config.image_token_id, self.processor.merge_size**2
        shapes = None
        if modality != "text":  # at least one token where there is no image
            shapes = shapes_of(inputs).clamp(min=self.processor.merge_size)
        rows = len(text_of(inputs)[0] if shapes is None else shapes)
        counts = [0] * rows if shapes is None else (shapes.prod(dim=1) // merged).tolist()
        texts: list[list[int]] = [[] for _ in range(rows)]
        if modality != "image":
            ids, mask = text_of(inputs)
            texts = [row[kept].tolist() for row, kept in zip(ids.cpu(), mask.cpu(), strict=True)]
        filled = []
        for text, count in zip(texts, counts, strict=True):
            before = [token for one in head for token in ([one] * count if one == image else [one])]
            filled.append([*before, *text, *tail])
        ids, mask = pad_tokens(filled, int(self.tokenizer.pad_token_id or 0))
        device = self.model.device
        return _Filled(ids.to(device), mask_empty_rows(mask).to(device), shapes, image)

    def _to_pixels(self, image: Image.Image) -> Float[Tensor, "1 patches values"]:
        width, height = image.size
        ratio = min(_LONGEST_RATIO, self.image_tokens)  # a longer image would need more tokens, or is refused
        if max(width, height) > ratio * min(width, height):
            image = image.resize((min(width, ratio * height), min(height, ratio * width)))
        limit = self.image_tokens * self.side**2
        size = {edge: min(limit, int(self.processor.size[edge])) for edge in ("shortest_edge", "longest_edge")}
        prepared = self.processor(images=image, return_tensors="np", size=size)
        patches = torch.from_numpy(np.asarray(prepared["pixel_values"], dtype=np.float32))
        shape = torch.from_numpy(np.asarray(prepared["image_grid_thw"])[0, 1:]).float()
        padded = F.pad(patches, (0, 0, 0, self.image_tokens * self.processor.merge_size**2 - len(patches)))
        return torch.cat([padded, shape.expand(len(padded), 2)], dim=1)[None]

    def _tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        encoded = self.tokenizer(list(texts), truncation=True, max_length=self.text_len, add_special_tokens=False)[
            "input_ids"
        ]
        return pad_tokens(cast(Sequence[Sequence[int]], encoded), 0, texts)


@dataclass(frozen=True)
class _Filled:
    """The chat template filled for a batch of items."""

    ids: Int[Tensor, "batch length"]
    mask: Bool[Tensor, "batch length"]
    shapes: Int[Tensor, "batch 2"] | None  # rows and columns of the images' patches
    image: int  # the token of which an image has as many as it needs

    def arguments(self) -> dict[str, Tensor | None]:
        """The arguments of transformers' model."""
        return {
            "input_ids": self.ids,
            "attention_mask": self.mask.long(),
            "image_grid_thw": None if self.shapes is None else F.pad(self.shapes, (1, 0), value=1),
            "mm_token_type_ids": (self.ids == self.image).int(),
        }


def _last_states(
    states: Float[Tensor, "batch length width"], mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch width"]:
    return states[torch.arange(len(mask), device=states.device), mask.sum(1) - 1]


def _at_last_token(
    states: Float[Tensor, "batch length width"], mask: Bool[Tensor, "batch length"]
) -> Float[Tensor, "batch width"]:
    """The unit vectors of the states at the last tokens."""
    return F.normalize(_last_states(states, mask).float(), dim=1)


_SPECIAL = ("endoftext", "im_start", "im_end", "vision_start", "vision_end", "image_pad", "video_pad")


def _train_tokenizer(transformers: Any, texts: Sequence[str]) -> Any:
    """Pairs of bytes learned from the texts, with the family's special tokens and a chat template."""
    library = optional("tokenizers", extra="transformers", purpose="the encoder 'vlm'")
    learner = library.Tokenizer(library.models.BPE())
    learner.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.decoder = library.decoders.ByteLevel()
    special = [f"<|{name}|>" for name in _SPECIAL]
    alphabet = library.pre_tokenizers.ByteLevel.alphabet()
    trainer = library.trainers.BpeTrainer(
        vocab_size=2000, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    learner.train_from_iterator(texts, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=learner, pad_token="<|endoftext|>", eos_token="<|im_end|>",
        additional_special_tokens=special, chat_template=_TEMPLATE,
    )  # fmt: skip
