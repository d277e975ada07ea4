"""CLIP: pictures and words in one space, from two streams."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from lmm4rec.core.errors import ConfigError, optional
from lmm4rec.core.files import read_json, write_json
from lmm4rec.core.types import Inputs, Item, Modality, NonNegativeInt, PositiveInt
from lmm4rec.encoders.base import Encoder, check_weights, stack_pixels
from lmm4rec.nn import clip_layout
from lmm4rec.nn.pixels import fit_and_crop, to_tensor
from lmm4rec.nn.positions import resize_positions
from lmm4rec.nn.towers import Tower, last_word, picture_tower, stack_of, text_tower

__all__ = ["Clip"]

MERGES = "bpe_simple_vocab_16e6.txt.gz"
_SETTINGS = "lmm4rec.json"


class Clip(Encoder):
    """CLIP (Radford et al. 2021, arXiv 2103.00020), through transformers.

    `checkpoint` is a local folder in the Hugging Face layout, a hub name such as "openai/clip-vit-base-patch16", or a
    file in the original layout (a TorchScript archive, a state dict, safetensors). Vectors are the projections of both
    towers, L2-normalized (fig. 3). Text is cut by tokens, its end token kept.

    Only for a file: sizes are read from its shapes; `heads` (of both towers, or of the pictures' where `text_heads`
    says otherwise; 64 wide where not given) and `activation` (the released weights' is quick_gelu) cannot be;
    `tokenizer` is the original bpe_simple_vocab_16e6.txt.gz, by default the one beside the checkpoint. `patch` is
    checked against the checkpoint. `image_size` other than the checkpoint's: positions are interpolated (bicubic).
    `text_len` cuts texts shorter than the checkpoint's length.
    """

    separable = True
    joint = True

    about: ClassVar = {
        "gives": "image and text in one space; ViT-B 512-d, ViT-L/14 768-d",
        "weights": 'a Hugging Face folder or hub name, or an original .pt file; "tiny", "toyshop"',
        "parameters": "ViT-B/32 151,277,313; ViT-B/16 149,620,737; ViT-L/14 427,616,513",
    }

    def __init__(
        self,
        *,
        checkpoint: str,
        text: str = "{title}. {description}",
        outputs: Literal["image+text", "image", "text"] = "image+text",
        heads: PositiveInt | None = None,
        text_heads: PositiveInt | None = None,
        image_size: PositiveInt | None = None,
        patch: PositiveInt | None = None,
        text_len: PositiveInt | None = None,
        activation: Literal["quick_gelu", "gelu"] | None = None,
        tokenizer: str | None = None,
    ) -> None:
        """Raises ConfigError where there is no CLIP under `checkpoint`, MissingExtraError without transformers."""
        super().__init__()
        self.model: Any
        self.tokenizer: Any
        if Path(checkpoint).is_file():
            options = {"heads": heads, "text_heads": text_heads, "activation": activation or "quick_gelu"}
            self.model = _model_of_file(Path(checkpoint), options)
            self.tokenizer = _tokenizer_of_file(Path(checkpoint), tokenizer, self.model.config.text_config.vocab_size)
            self.preprocessing = clip_layout.preprocessing(self.model.config.vision_config.image_size)
        else:
            self.model, self.tokenizer, self.preprocessing = _open_folder(checkpoint)
        given = {"heads": heads, "text_heads": text_heads, "patch": patch, "activation": activation}
        _check_given(checkpoint, self.model.config, given | {"tokenizer": tokenizer})
        self.checkpoint, self.text, self.outputs = checkpoint, text, outputs
        longest = int(self.model.config.text_config.max_position_embeddings)
        self.text_len = text_len or longest
        if self.text_len > longest:
            raise ConfigError(f"text_len = {text_len}, but checkpoint '{checkpoint}' has {longest} positions for text")
        if image_size and image_size != self.model.config.vision_config.image_size:
            _resize_pictures(self.model, image_size)
            self.preprocessing |= {"shortest_edge": image_size, "crop": [image_size, image_size]}
        self.dims = dict.fromkeys(outputs.split("+"), int(self.model.config.projection_dim))

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
        for modality, given in (("image", inputs.pixels), ("text", inputs.text_ids)):
            if modality in self.dims and given is None:
                raise ConfigError(f"the outputs '{self.outputs}' of 'clip' need {modality}, the inputs have none")
        make = {"image": self._image, "text": self._text}
        return {modality: make[modality](inputs) for modality in self.dims}

    def towers(self) -> Mapping[Modality, Tower]:
        """The two streams; a text is read at its end token."""
        config, found = self.model.config, {}
        blank = torch.zeros(1, 3, *self.preprocessing["crop"])
        pictures = stack_of(self.model.vision_model, config.vision_config.num_hidden_layers)
        words = stack_of(self.model.text_model, config.text_config.num_hidden_layers)
        if pictures is not None:
            found["image"] = picture_tower(pictures, self._image, blank, class_token=True)
        if words is not None:
            found["text"] = text_tower(words, self._text, last_word)
        return {modality: found[modality] for modality in self.dims if modality in found}

    def settings(self) -> dict[str, object]:
        """Template, outputs, preprocessing, vocabulary, and what the weights' shapes do not tell."""
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
        self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        write_json(Path(folder) / "preprocessor_config.json", clip_layout.as_hugging_face(self.preprocessing))
        settings = {"text": self.text, "outputs": self.outputs, "text_len": self.text_len}
        write_json(Path(folder) / _SETTINGS, {"encoder": "clip", **settings})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Clip:
        """The encoder in a folder written by `save_pretrained`."""
        settings = read_json(Path(folder) / _SETTINGS)
        options = {key: settings[key] for key in ("text", "outputs", "text_len")}
        return cls(checkpoint=str(folder), **options)

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
        transformers = _transformers()
        tokenizer = _train_tokenizer(transformers, texts, vocabulary)
        shared = {"hidden_size": dim, "intermediate_size": 4 * dim, "num_hidden_layers": layers}
        shared["num_attention_heads"] = dim // 32
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
        write_json(
            Path(folder) / "preprocessor_config.json",
            clip_layout.as_hugging_face(clip_layout.preprocessing(image_size)),
        )

    def _image(self, inputs: Inputs) -> Tensor:
        return F.normalize(self.model.get_image_features(pixel_values=inputs.pixels).pooler_output, dim=1)

    def _text(self, inputs: Inputs) -> Tensor:
        # what stands behind the end token cannot be seen from it (the attention is causal): no mask is needed
        return F.normalize(self.model.get_text_features(input_ids=inputs.text_ids).pooler_output, dim=1)

    def _to_pixels(self, image: Image.Image) -> Float[Tensor, "3 height width"]:
        fitted = fit_and_crop(image, self.preprocessing["shortest_edge"], tuple(self.preprocessing["crop"]))
        return to_tensor(fitted, self.preprocessing["mean"], self.preprocessing["std"])

    def _tokenize(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        self._need_tokenizer()
        clean = [_clean(text) for text in texts]
        encoded = self.tokenizer(clean, truncation=True, max_length=self.text_len)["input_ids"]
        width = max(len(ids) for ids in encoded)
        ids = torch.zeros(len(texts), width, dtype=torch.int64)
        mask = torch.zeros(len(texts), width, dtype=torch.bool)
        for row, (text, tokens) in enumerate(zip(texts, encoded, strict=True)):
            ids[row, : len(tokens)] = torch.tensor(tokens)
            mask[row, : len(tokens)] = bool(text)
        return ids, mask

    def _need_tokenizer(self) -> None:
        if self.tokenizer is None:
            raise ConfigError(
                f"checkpoint '{self.checkpoint}' came without its tokenizer: give tokenizer = the path of the original "
                f"{MERGES}, or lay that file beside the checkpoint"
            )


def _open_folder(checkpoint: str) -> tuple[Any, Any, dict[str, Any]]:
    """Model, tokenizer and preprocessing of a checkpoint in the Hugging Face layout."""
    transformers = _transformers()
    loading = {"dtype": torch.float32, "output_loading_info": True}
    try:
        model, info = transformers.CLIPModel.from_pretrained(checkpoint, **loading)
        tokenizer = transformers.CLIPTokenizer.from_pretrained(checkpoint)
        pictures, _ = transformers.CLIPImageProcessorPil.get_image_processor_dict(checkpoint)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"no CLIP under checkpoint '{checkpoint}': give a folder with config.json, model.safetensors, "
            "preprocessor_config.json and the tokenizer, a file in the original layout, or a hub name where there is a "
            f"network ({str(error).splitlines()[0]})"
        ) from error
    check_weights(checkpoint, info["missing_keys"])
    return model, tokenizer, clip_layout.preprocessing_of(checkpoint, pictures)


def _model_of_file(file: Path, options: Mapping[str, Any]) -> Any:
    """transformers' model with the weights of a file in the original layout."""
    transformers = _transformers()
    weights = clip_layout.read_weights(file)
    clip_layout.check_kind(weights, file)
    check_weights(str(file), clip_layout.missing_names(weights))
    config = transformers.CLIPConfig(**clip_layout.architecture(weights, **options))
    try:
        return transformers.CLIPModel.from_pretrained(
            None, config=config, state_dict=clip_layout.rename(weights), dtype=torch.float32
        )
    except RuntimeError as error:
        raise ConfigError(f"the shapes of the weights in {file} do not fit together: {error}") from error


def _tokenizer_of_file(file: Path, given: str | None, vocabulary: int) -> Any:
    """The original tokenizer, where its file is named or lies beside the checkpoint; else None."""
    merges_file = Path(given) if given else file.with_name(MERGES)
    if not given and not merges_file.exists():
        return None  # vectors need no tokenizer, only `prepare` does, and says so
    words, merges = clip_layout.read_merges(merges_file, vocabulary)
    return _transformers().CLIPTokenizer(vocab=words, merges=merges)


def _check_given(checkpoint: str, config: Any, given: Mapping[str, object]) -> None:
    """Refuse what contradicts the checkpoint."""
    image, words = config.vision_config, config.text_config
    has = {"heads": image.num_attention_heads, "text_heads": words.num_attention_heads, "patch": image.patch_size}
    has["activation"] = image.hidden_act
    if Path(checkpoint).is_file():
        has["tokenizer"] = given["tokenizer"]
    for key, value in given.items():
        if value is not None and value != has.get(key):
            own = has.get(key, "the one in its folder")
            raise ConfigError(f"{key} = {value}, but that of checkpoint '{checkpoint}' is {own}; leave it out")


def _resize_pictures(model: Any, image_size: int) -> None:
    """Let the model take pictures of another size."""
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


def _transformers() -> Any:
    return optional("transformers", extra="transformers", purpose="the encoder 'clip'")


def _train_tokenizer(transformers: Any, texts: Sequence[str], size: int) -> Any:
    """CLIP's own tokenizer class over a byte-pair vocabulary learned from the texts."""
    tokenizers = optional("tokenizers", extra="transformers", purpose="the encoder 'clip'")
    blank = transformers.CLIPTokenizer()
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        # the trainer numbers letters that end a word in no fixed order, so they come named; the original has them all
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


def _clean(text: str) -> str:
    """What the original tokenizer does first: mend broken Unicode and curly quotes, resolve HTML entities."""
    fix = optional("ftfy", extra="transformers", purpose="the encoder 'clip'").fix_text
    return html.unescape(html.unescape(fix(text))).strip()
