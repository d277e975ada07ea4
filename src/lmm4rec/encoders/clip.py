"""CLIP: images and text in one space, from two towers."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.core.files import write_json
from lmm4rec.core.types import Inputs, Item, Modality, NonNegativeInt, PositiveInt
from lmm4rec.encoders.base import Checkpoint, Encoder, ImageSize, PatchSize, TextLength, TextTemplate, stack_items
from lmm4rec.nn.inputs import pad_tokens
from lmm4rec.nn.pixels import fit_and_crop, to_tensor
from lmm4rec.nn.transformers.clip import checkpoint as clip_checkpoint
from lmm4rec.nn.transformers.clip import original_layout, recipe
from lmm4rec.nn.transformers.hugging_face import draw_from_seed, save_parts, transformers_library
from lmm4rec.nn.transformers.recipe import FinetuningRecipe
from lmm4rec.nn.transformers.towers import Tower, image_tower, last_token, stack_of, text_tower

__all__ = ["Clip"]


class Clip(Encoder):
    """CLIP (Radford et al. 2021, arXiv 2103.00020), through transformers.

    `checkpoint` is a local folder in the Hugging Face layout, a hub name such as "openai/clip-vit-base-patch16", or a
    file in the original layout (a TorchScript archive, a state dict, safetensors). Vectors are the projections of both
    towers, L2-normalized (fig. 3). Text is cut by tokens, its end token kept.

    Only for a file: sizes follow from its shapes, but `heads` (of both towers, or of the image tower where `text_heads`
    is given too) and `activation` do not. They are known for the authors' own files: heads by the widths of the towers,
    quick_gelu by the numbers that these files hold beside the weights. Other files need both, OpenCLIP's ViT-H/14
    `heads = 16` and `activation = "gelu"`;
    `tokenizer` is the original bpe_simple_vocab_16e6.txt.gz, by default the one beside the checkpoint. `patch` is
    only checked against the checkpoint. `image_size` other than the checkpoint's: positions are interpolated (bicubic).
    `text_len` cuts texts shorter than the checkpoint's length.
    """

    separable = True
    joint = True

    saved_options = ("text", "outputs", "text_len")
    below_blocks = recipe.BELOW_BLOCKS
    about: ClassVar = {
        "gives": "image and text in one space; ViT-B 512-d, ViT-L/14 768-d",
        "weights": 'a Hugging Face folder or hub name, or an original .pt file; "tiny", "toyshop"',
        "parameters": "ViT-B/32 151,277,313; ViT-B/16 149,620,737; ViT-L/14 427,616,513",
    }

    def __init__(
        self,
        *,
        checkpoint: Checkpoint,
        text: TextTemplate = "{title}. {description}",
        outputs: Annotated[Literal["image+text", "image", "text"], Doc("Modalities that come out.")] = "image+text",
        heads: Annotated[PositiveInt | None, Doc("Attention heads of the image tower, for original files.")] = None,
        text_heads: Annotated[PositiveInt | None, Doc("Attention heads of the text tower, for original files.")] = None,
        image_size: ImageSize = None,
        patch: PatchSize = None,
        text_len: TextLength = None,
        activation: Annotated[Literal["quick_gelu", "gelu"] | None, Doc("Activation, for original files.")] = None,
        tokenizer: Annotated[str | None, Doc("Byte-pair merges of an original file; left out: beside it.")] = None,
    ) -> None:
        """Raises ConfigError where there is no CLIP under `checkpoint`, MissingExtraError without transformers."""
        super().__init__()
        self.model: Any
        self.tokenizer: Any
        if Path(checkpoint).is_file():
            options = {"heads": heads, "text_heads": text_heads, "activation": activation}
            self.model = clip_checkpoint.model_of_file(Path(checkpoint), options)
            vocabulary = self.model.config.text_config.vocab_size
            self.tokenizer = clip_checkpoint.tokenizer_of_file(Path(checkpoint), tokenizer, vocabulary)
            self.preprocessing = original_layout.preprocessing(self.model.config.vision_config.image_size)
        else:
            self.model, self.tokenizer, self.preprocessing = clip_checkpoint.open_folder(checkpoint)
        given = {"heads": heads, "text_heads": text_heads, "patch": patch, "activation": activation}
        clip_checkpoint.check_given(checkpoint, self.model.config, given | {"tokenizer": tokenizer})
        self.checkpoint, self.text, self.outputs = checkpoint, text, outputs
        longest = int(self.model.config.text_config.max_position_embeddings)
        self.text_len = text_len or longest
        if self.text_len > longest:
            raise ConfigError(f"text_len = {text_len}, but checkpoint '{checkpoint}' has {longest} positions for text")
        if image_size and image_size != self.model.config.vision_config.image_size:
            clip_checkpoint.resize_images(self.model, image_size)
            self.preprocessing |= {"shortest_edge": image_size, "crop": [image_size, image_size]}
        self.dims = dict.fromkeys(outputs.split("+"), int(self.model.config.projection_dim))

    @property
    def logit_scale(self) -> Tensor:
        """The learned log of the inverse temperature."""
        return cast(Tensor, self.model.logit_scale)

    def prepare(self, items: Sequence[Item]) -> Inputs:
        """Pixels after resizing and cropping, and token ids, padded with 0 to the longest text."""
        return stack_items(self, items, self._to_pixels, self._tokenize)

    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """Unit vectors of the images and texts."""
        for modality, given in (("image", inputs.pixels), ("text", inputs.text_ids)):
            if modality in self.dims and given is None:
                raise ConfigError(f"the outputs '{self.outputs}' of 'clip' need {modality}, the inputs have none")
        make = {"image": self._image, "text": self._text}
        return {modality: make[modality](inputs) for modality in self.dims}

    def towers(self) -> Mapping[Modality, Tower]:
        """The two towers; a text is read at its end token."""
        config, found = self.model.config, {}
        blank = torch.zeros(1, 3, *self.preprocessing["crop"])
        images = stack_of(self.model.vision_model, config.vision_config.num_hidden_layers)
        texts = stack_of(self.model.text_model, config.text_config.num_hidden_layers)
        if images is not None:
            found["image"] = image_tower(images, self._image, blank, class_token=True)
        if texts is not None:
            found["text"] = text_tower(texts, self._text, last_token)
        return {modality: found[modality] for modality in self.dims if modality in found}

    def recipes(self) -> Mapping[str, FinetuningRecipe]:
        """`official`: the rates of later work on the authors' loss, for the authors published none."""
        return {"official": recipe.RECIPE}

    def settings(self) -> dict[str, object]:
        """Template, outputs, preprocessing, vocabulary, and what does not follow from the weights."""
        towers = (self.model.config.vision_config, self.model.config.text_config)
        return {
            "text": self.text,
            "outputs": self.outputs,
            "text_len": self.text_len,
            "preprocessing": self.preprocessing,
            "vocabulary": self.tokenizer.get_vocab() if self.tokenizer else {},
            "towers": [(tower.num_attention_heads, tower.hidden_act) for tower in towers],
        }

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder as a folder in the Hugging Face layout, which any tool of that family reads.

        Raises:
            ConfigError: the checkpoint came without its tokenizer.
        """
        self._need_tokenizer()
        settings = {"encoder": "clip", "text": self.text, "outputs": self.outputs, "text_len": self.text_len}
        save_parts(folder, (self.model, self.tokenizer), settings)
        write_json(Path(folder) / "preprocessor_config.json", original_layout.as_hugging_face(self.preprocessing))

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
        projection_dim: PositiveInt = 64,
        vocabulary: PositiveInt = 2200,
        text_len: PositiveInt = 48,
    ) -> None:
        """Write a small untrained CLIP in the Hugging Face layout, its byte-pair vocabulary learned from `texts`.

        It is meant for catalogs to pre-train on where no released weights are at hand, and for tests.
        """
        transformers = transformers_library("clip")
        tokenizer = clip_checkpoint.train_tokenizer(transformers, texts, vocabulary)
        shared = {"hidden_size": dim, "intermediate_size": 4 * dim, "num_hidden_layers": layers}
        shared["num_attention_heads"] = dim // 32
        special = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
        config = transformers.CLIPConfig(
            text_config={**shared, **special, "vocab_size": len(tokenizer), "max_position_embeddings": text_len},
            vision_config={**shared, "image_size": image_size, "patch_size": patch},
            projection_dim=projection_dim,
        )
        save_parts(folder, (draw_from_seed(lambda: transformers.CLIPModel(config), seed), tokenizer))
        write_json(
            Path(folder) / "preprocessor_config.json",
            original_layout.as_hugging_face(original_layout.preprocessing(image_size)),
        )

    def _image(self, inputs: Inputs) -> Tensor:
        return F.normalize(self.model.get_image_features(pixel_values=inputs.pixels).pooler_output, dim=1)

    def _text(self, inputs: Inputs) -> Tensor:
        rows = self.model.config.text_config.vocab_size
        if self.tokenizer is not None and len(self.tokenizer) > rows:
            raise ConfigError(
                f"the tokenizer of checkpoint '{self.checkpoint}' has {len(self.tokenizer):,} tokens, the model "
                f"{rows:,}: it is that of another model"
            )
        # the attention is causal: the end token does not see the padding behind it, so no mask is needed
        return F.normalize(self.model.get_text_features(input_ids=inputs.text_ids).pooler_output, dim=1)

    def _to_pixels(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        fitted = fit_and_crop(image, self.preprocessing["shortest_edge"], tuple(self.preprocessing["crop"]))
        return to_tensor(fitted, self.preprocessing["mean"], self.preprocessing["std"])

    def _tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        self._need_tokenizer()
        clean = [_clean(text) for text in texts]
        encoded = self.tokenizer(clean, truncation=True, max_length=self.text_len)["input_ids"]
        return pad_tokens(encoded, 0, texts)

    def _need_tokenizer(self) -> None:
        if self.tokenizer is None:
            raise ConfigError(
                f"checkpoint '{self.checkpoint}' came without its tokenizer: give tokenizer = the path of the original "
                f"{clip_checkpoint.MERGES}, or put that file beside the checkpoint"
            )


def _clean(text: str) -> str:
    """The text as the original tokenizer cleans it: Unicode and curly quotes repaired, HTML entities resolved."""
    fix = optional("ftfy", extra="transformers", purpose="the encoder 'clip'").fix_text
    return html.unescape(html.unescape(fix(text))).strip()
