"""Dual: SigLIP, AltCLIP, Chinese-CLIP, MetaCLIP 2 and other models of transformers with two towers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.core.types import Inputs, Item, Modality, NonNegativeInt, PositiveInt
from lmm4rec.encoders.base import Encoder, TextLength, TextTemplate, stack_items
from lmm4rec.nn.inputs import mask_empty_rows, pad_tokens, pixels_of, shapes_of, text_of, with_shapes
from lmm4rec.nn.transformers.hugging_face import (
    check_loaded,
    draw_from_seed,
    load_model,
    loading,
    save_parts,
    transformers_library,
)
from lmm4rec.nn.transformers.towers import BlockEntry, Tower, image_tower, mean_token, stack_of, text_tower

__all__ = ["Dual"]

_SIGLIP = ("siglip", "siglip2")  # trained on texts of one length: padding is attended to, and the last token is read
_NAFLEX = "siglip2"  # takes patches of images of any shape


class Dual(Encoder):
    """SigLIP (Zhai et al. 2023, arXiv 2303.15343), SigLIP 2, AltCLIP, Chinese-CLIP, MetaCLIP 2 and similar models.

    `checkpoint` is a local folder in the Hugging Face layout or a hub name. Vectors are transformers' image
    and text features, L2-normalized. Images and texts are prepared by the checkpoint's preprocessor and tokenizer;
    SigLIP 2's texts are in lower case, as in its training. `text_len` cuts texts shorter than the checkpoint does.
    Fine-tuning on pairs is contrastive (softmax) for all, so SigLIP's sigmoid bias is not trained.

    SigLIP 2 of flexible shape (NaFlex): `pixels` holds [patches, values] of an image as one channel.
    """

    separable = True
    joint = True

    saved_options = ("text", "outputs", "text_len")
    about: ClassVar = {
        "gives": "image and text in one space; SigLIP base 768-d, AltCLIP 768-d, Chinese-CLIP base 512-d",
        "weights": 'a Hugging Face folder or hub name; "tiny", "toyshop" (a small SigLIP)',
        "parameters": "SigLIP base/16 203,155,970; SigLIP 2 base/16 375,187,970",
    }

    def __init__(
        self,
        *,
        checkpoint: Annotated[str, Doc("Folder or hub name.")],
        text: TextTemplate = "{title}. {description}",
        outputs: Annotated[Literal["image+text", "image", "text"], Doc("Modalities that come out.")] = "image+text",
        text_len: TextLength = None,
    ) -> None:
        """Raises ConfigError where there is no dual encoder under `checkpoint`, MissingExtraError without the extra."""
        super().__init__()
        self.model: Any
        expected = "a folder with config.json, model.safetensors, preprocessor_config.json and the tokenizer"
        with loading(checkpoint, kind="dual encoder", expected=expected) as source:
            transformers = transformers_library("dual")
            self.model, missing = load_model(transformers.AutoModel, source)
            self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(source)
            self.processor: Any = transformers.AutoImageProcessor.from_pretrained(source, backend="pil")
        kind = type(self.model).__name__
        if not all(hasattr(self.model, f"get_{modality}_features") for modality in ("image", "text")):
            raise ConfigError(
                f"the {kind} under checkpoint '{checkpoint}' is no dual encoder: it gives no vector for an image and "
                "for a text; use the encoder 'vision' for a vision model, 'sentence' for a text model"
            )
        check_loaded(checkpoint, source, missing)
        self.text, self.outputs = text, outputs
        self.kind: str = self.model.config.model_type
        self.text_len = self._longest_text(checkpoint, text_len)
        self.dims = dict.fromkeys(outputs.split("+"), self._width(checkpoint))

    @property
    def logit_scale(self) -> Tensor:
        """The learned log of the inverse temperature."""
        scale: Tensor = self.model.logit_scale
        return scale.reshape(())

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """Pixels from the checkpoint's preprocessor, and token ids, the real ones first."""
        inputs = stack_items(self, items, self._to_pixels, self._tokenize)
        return with_shapes(inputs) if self.kind == _NAFLEX else inputs

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """Unit vectors of the images and texts."""
        make = {"image": self._image, "text": self._text}
        return {modality: make[modality](inputs) for modality in self.dims}

    def towers(self) -> Mapping[Modality, Tower]:
        """The two towers."""
        model, found = self.model, {}
        images = stack_of(model.vision_model, model.config.vision_config.num_hidden_layers)
        texts = stack_of(model.text_model, model.config.text_config.num_hidden_layers)
        blank = torch.zeros_like(self._to_pixels(Image.new("RGB", (64, 64)))[None])
        if images is not None and self.kind == _NAFLEX:
            found["image"] = self._tower_of_any_shape(images, blank[..., :-2])
        elif images is not None:
            found["image"] = image_tower(images, self._image, blank, class_token=self.kind not in _SIGLIP)
        if texts is not None:
            tokens = model.config.text_config.max_position_embeddings if self.kind in _SIGLIP else None
            found["text"] = text_tower(texts, self._text, mean_token, tokens=tokens)
        return {modality: found[modality] for modality in self.dims if modality in found}

    def settings(self) -> dict[str, object]:
        """Template, outputs, preprocessing, vocabulary and architecture."""
        config = self.model.config.to_dict()
        return {
            "text": self.text,
            "outputs": self.outputs,
            "text_len": self.text_len,
            "preprocessing": self.processor.to_json_string(),
            "tokenizer": (type(self.tokenizer).__name__, self.tokenizer.padding_side),
            "vocabulary": self.tokenizer.get_vocab(),
            "architecture": {key: config[key] for key in ("model_type", "text_config", "vision_config")},
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder as a folder in the Hugging Face layout, which any tool of that family reads."""
        settings = {"encoder": "dual", "text": self.text, "outputs": self.outputs, "text_len": self.text_len}
        save_parts(folder, (self.model, self.tokenizer, self.processor), settings)

    @classmethod
    def write_tiny(
        cls,
        folder: str | Path,
        texts: Sequence[str],
        *,
        seed: NonNegativeInt = 0,
        image_size: PositiveInt = 64,
        patch: PositiveInt = 16,
        dim: PositiveInt = 96,
        layers: PositiveInt = 2,
        vocabulary: PositiveInt = 2000,
        text_len: PositiveInt = 48,
    ) -> None:
        """Write a small untrained SigLIP in the Hugging Face layout, its byte-pair vocabulary learned from `texts`."""
        transformers = transformers_library("dual")
        tokenizer = _train_tokenizer(transformers, texts, vocabulary, text_len)
        shared = {"hidden_size": dim, "intermediate_size": 4 * dim, "num_hidden_layers": layers}
        shared["num_attention_heads"] = dim // 32
        special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
        vocabulary_sizes = {"vocab_size": len(tokenizer), "max_position_embeddings": text_len, **special}
        config = transformers.SiglipConfig(
            text_config={**shared, **vocabulary_sizes},
            vision_config={**shared, "image_size": image_size, "patch_size": patch},
        )
        model = draw_from_seed(lambda: transformers.SiglipModel(config), seed)
        torch.nn.init.constant_(model.logit_scale, float(np.log(1 / 0.07)))  # CLIP's first temperature
        processor = transformers.SiglipImageProcessorPil(size={"height": image_size, "width": image_size})
        save_parts(folder, (model, tokenizer, processor))

    def _image(self, inputs: Inputs) -> Tensor:
        return F.normalize(self._image_features(inputs), dim=1)

    def _tower_of_any_shape(self, blocks: torch.nn.ModuleList, blank: Float[Tensor, "1 1 patches values"]) -> Tower:
        """The tower of images of several shapes; `blank` holds the pixels of an empty one."""

        def entered(inputs: Inputs) -> Tensor:
            shapes = shapes_of(inputs)
            return self._image(inputs._replace(pixels=blank.to(shapes.device).expand(len(shapes), -1, -1, -1)))

        def kept(inputs: Inputs) -> Tensor:
            return _real_patches(shapes_of(inputs), blank.shape[2])

        def mean(states: Tensor, inputs: Inputs) -> Tensor:
            weight = kept(inputs).to(states.dtype)
            return torch.einsum("btd,bt->bd", states, weight) / weight.sum(1, keepdim=True)

        return Tower(list(blocks), self._image, BlockEntry(blocks, entered), kept, mean)

    def _text(self, inputs: Inputs) -> Tensor:
        return F.normalize(self._text_features(*text_of(inputs)), dim=1)

    def _image_features(self, inputs: Inputs) -> Float[Tensor, "rows dim"]:
        # entered at an upper block it returns more rows than the one blank image
        pixels = pixels_of(inputs)
        if self.kind != _NAFLEX:
            return self.model.get_image_features(pixel_values=pixels).pooler_output
        patches, shapes = pixels[:, 0], shapes_of(inputs).clamp(min=1)  # at least one: no image
        real = _real_patches(shapes, patches.shape[1])
        features = self.model.get_image_features(
            pixel_values=patches, pixel_attention_mask=real.long(), spatial_shapes=shapes
        )
        return features.pooler_output

    def _text_features(
        self, ids: Int[Tensor, "batch length"], mask: Bool[Tensor, "batch length"]
    ) -> Float[Tensor, "batch dim"]:
        side = self.tokenizer.padding_side if self.kind in _SIGLIP else "right"
        order = (mask if side == "left" else ~mask).long().argsort(dim=1, stable=True)
        pad = self.tokenizer.pad_token_id
        ids, mask = ids.masked_fill(~mask, pad).gather(1, order), mask.gather(1, order)
        if self.kind in _SIGLIP:
            positions = self.model.config.text_config.max_position_embeddings
            more = positions - ids.shape[1]
            if more < 0:
                raise ConfigError(f"texts of {ids.shape[1]} tokens, but the checkpoint has {positions} positions")
            ids = F.pad(ids, (more, 0) if side == "left" else (0, more), value=pad)
            return self.model.get_text_features(input_ids=ids).pooler_output
        return self.model.get_text_features(input_ids=ids, attention_mask=mask_empty_rows(mask).long()).pooler_output

    def _to_pixels(self, image: Image.Image) -> Float[Tensor, "channels height width"]:
        prepared = self.processor(images=image, return_tensors="np")
        pixels = torch.from_numpy(np.asarray(prepared["pixel_values"][0], dtype=np.float32))
        if self.kind != _NAFLEX:
            return pixels
        shape = torch.from_numpy(np.asarray(prepared["spatial_shapes"][0])).float()
        return torch.cat([pixels, shape.expand(len(pixels), 2)], dim=1)[None]

    def _tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        lower = self.kind in _SIGLIP and not hasattr(self.tokenizer, "do_lower_case")
        read = [text.lower() for text in texts] if lower else list(texts)
        encoded = self.tokenizer(read, truncation=True, max_length=self.text_len)["input_ids"]
        return pad_tokens(encoded, self.tokenizer.pad_token_id, texts)

    def _longest_text(self, checkpoint: str, given: int | None) -> int:
        """The number of tokens of the longest text: as given, else as tokenizer and positions allow."""
        config = self.model.config.text_config
        positions = config.max_position_embeddings
        if self.kind == "altclip":  # as in RoBERTa, positions start behind that of the padding
            positions -= config.pad_token_id + 1
        if given and given > positions:
            raise ConfigError(f"text_len = {given}, but checkpoint '{checkpoint}' has {positions} positions for text")
        return given or min(self.tokenizer.model_max_length, positions)

    def _width(self, checkpoint: str) -> int:
        """The width of the vectors, by a trial: architectures have no common name for it."""
        try:
            with torch.no_grad():
                trial = Inputs(pixels=self._to_pixels(Image.new("RGB", (64, 64)))[None])
                image = self._image_features(with_shapes(trial) if self.kind == _NAFLEX else trial)
                text = self._text_features(*self._tokenize(["a"]))
        except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
            raise ConfigError(
                f"the {type(self.model).__name__} under checkpoint '{checkpoint}' gives no vector for an image alone "
                f"or for a text alone ({str(error).splitlines()[0]})"
            ) from error
        if image.shape[1] != text.shape[1]:
            raise ConfigError(
                f"checkpoint '{checkpoint}' gives {image.shape[1]} numbers for an image and {text.shape[1]} for a "
                "text: they are in no common space"
            )
        return image.shape[1]


def _real_patches(shapes: Int[Tensor, "batch 2"], patches: int) -> Bool[Tensor, "batch patches"]:
    """The patches of each image that are no padding."""
    return torch.arange(patches, device=shapes.device) < shapes.clamp(min=1).prod(dim=1, keepdim=True)


def _train_tokenizer(transformers: Any, texts: Sequence[str], size: int, text_len: int) -> Any:
    """A lower-case byte-pair vocabulary learned from the texts; every text ends with its end token."""
    library = optional("tokenizers", extra="transformers", purpose="the encoder 'dual'")
    special: Mapping[str, str] = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    learner = library.Tokenizer(library.models.BPE(unk_token="<unk>"))
    learner.normalizer = library.normalizers.Sequence(
        [library.normalizers.NFKC(), library.normalizers.Lowercase(), library.normalizers.Strip()]
    )
    learner.pre_tokenizer = library.pre_tokenizers.Metaspace()
    trainer = library.trainers.BpeTrainer(vocab_size=size, special_tokens=[*special.values()], show_progress=False)
    learner.train_from_iterator(texts, trainer)
    end = [("</s>", learner.token_to_id("</s>"))]
    learner.post_processor = library.processors.TemplateProcessing(single="$A </s>", special_tokens=end)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=learner, model_max_length=text_len, padding_side="right", **special
    )
