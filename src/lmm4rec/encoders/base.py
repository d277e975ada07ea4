"""The base class of encoders: modules that turn a batch of items into one vector per item and modality."""

from __future__ import annotations

import copy
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

import torch
from jaxtyping import Bool, Float
from PIL import Image
from torch import Tensor, nn
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, ImageError, did_you_mean
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.core.hub import local_folder, push_folder
from lmm4rec.core.types import Inputs, Item, Modality, PositiveInt
from lmm4rec.nn.text import render
from lmm4rec.nn.transformers.checkpoints import read_options
from lmm4rec.nn.transformers.recipe import FinetuningRecipe
from lmm4rec.nn.transformers.towers import Tower

AnyEncoder = TypeVar("AnyEncoder", bound="Encoder")

FUSED: Modality = "fused"
"""One vector of an item's image and text together."""

DEFAULT_TEXT = "{title}. {description}"
"""The default template of the text that encoders read of an item."""

# Hyper-parameters that several encoders have.
Checkpoint: TypeAlias = Annotated[str, Doc('Folder, official file or hub name; or "tiny", "toyshop" of lmm4rec.')]
TextTemplate: TypeAlias = Annotated[str, Doc("Template of the text that is read of an item; any catalog columns.")]
TextLength: TypeAlias = Annotated[
    PositiveInt | None, Doc("Tokens of a text that are read, both ends included; left out: as the checkpoint says.")
]
ImageSize: TypeAlias = Annotated[
    PositiveInt | None, Doc("Side of the images in pixels, where the checkpoint does not tell or another is wanted.")
]
PatchSize: TypeAlias = Annotated[PositiveInt | None, Doc("Side of a patch in pixels, where the checkpoint lacks it.")]
Outputs: TypeAlias = Annotated[
    Literal["image+text", "image", "text", "fused", "image+text+fused"], Doc("Modalities that come out.")
]
Checkpointing: TypeAlias = Annotated[bool, Doc("Keep only states between blocks in training: less memory, more time.")]


class Encoder(nn.Module, ABC):
    """A module that turns items into vectors.

    `prepare` is the CPU work (decode, resize, tokenize) and may run in worker processes; `forward` is differentiable.
    """

    dims: Mapping[Modality, int]
    """The width of each modality's vector; its keys are the modalities of the vectors, in a fixed order."""

    text: str = ""
    """The template of the text that is read of an item; empty where the encoder reads no text."""

    outputs: str = ""
    """The modalities of the vectors, joined by "+", where that is a parameter of the encoder."""

    separable: ClassVar[bool] = False
    """Whether `prepare` and `forward` follow `dims`, each modality in a pass of its own: see `with_modalities`."""

    joint: bool = False
    """Whether its image and text vectors lie in one space, so that a text query finds images."""

    has_weights: bool = True
    """Whether it has weights that can be trained."""

    saved_options: ClassVar[Sequence[str]] = ()
    """The parameters beside the checkpoint that `save_pretrained` writes and `from_pretrained` reads."""

    _weights: str = ""  # a digest of the weights, where it is already computed

    below_blocks: Mapping[Modality, Sequence[str]] = {}
    """For each modality the beginnings of the names, in `model`, of the parameters below its first block."""

    about: ClassVar[Mapping[str, str]] = {}
    """The facts that `lmm4rec models` prints beside the docstring: vectors, loadable weights, sizes."""

    def __repr__(self) -> str:  # a module's own takes hundreds of lines: print its `model` for them
        dims = ", ".join(f"{modality} {dim}" for modality, dim in self.dims.items())
        return f"{type(self).__name__}({dims}; {sum(weights.numel() for weights in self.parameters()):,} parameters)"

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """The modalities of the vectors."""
        return tuple(self.dims)

    @classmethod
    def has_tiny(cls) -> bool:
        """Whether it defines `write_tiny`, and so takes checkpoint = "tiny"."""
        return any("write_tiny" in vars(kind) for kind in cls.__mro__ if kind is not Encoder)

    @classmethod
    def write_tiny(cls, folder: str | Path, texts: Sequence[str], *, seed: int = 0) -> None:
        """Write a small untrained encoder of this kind as a checkpoint, its vocabulary learned from `texts`.

        Encoders that take a `checkpoint` define it, for tests and for catalogs to train on from the first weights.
        """
        raise NotImplementedError(f"{cls.__name__} writes no checkpoint")

    @classmethod
    def tiny(cls, folder: Path, items: Sequence[Item], **options: Any) -> Encoder:
        """A small encoder without training, fitted to `items`; its checkpoint, where it has one, goes into `folder`."""
        if cls.has_tiny():
            if not any(folder.iterdir()):
                cls.write_tiny(folder, [" ".join(item.fields.values()) for item in items])
            options = {"checkpoint": str(folder), **options}
        encoder = cls(**options)
        encoder.learn_catalog(items)
        return encoder

    @classmethod
    def from_pretrained(cls: type[AnyEncoder], folder: str | Path) -> AnyEncoder:
        """The encoder in a folder written by its `save_pretrained` or `write_tiny`, or of a repository of the hub."""
        folder = local_folder(folder)
        return cls(checkpoint=str(folder), **read_options(folder, cls.saved_options))

    def push_to_hub(self, repository: str, *, token: str | None = None, private: bool = True) -> str:
        """Upload the encoder as `owner/name` of the Hugging Face hub, with a model card; returns the address.

        Raises:
            ConfigError: it has no weights to save, there is no token, or the hub refuses it or cannot be reached.
        """
        if not hasattr(self, "save_pretrained"):
            raise ConfigError(f"{type(self).__name__} has no weights, so there is nothing to upload")
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)  # type: ignore[operator]
            name = type(self).__module__.rpartition(".")[2]
            card = f"# {repository}\n\nAn encoder of lmm4rec: `{self!r}`.\n\n"
            card += f'```toml\n[encoder]\nname = "{name}"\ncheckpoint = "{repository}"\n```\n'
            (Path(folder) / "README.md").write_text(card, encoding="utf-8")
            return push_folder(Path(folder), repository, token=token, private=private)

    @abstractmethod
    def prepare(self, items: Sequence[Item]) -> Inputs:
        """The inputs of the items; a missing or unreadable image and missing text are masked, never dropped."""

    @abstractmethod
    def forward(self, inputs: Inputs) -> dict[Modality, Float[Tensor, "batch _dim"]]:
        """The vectors, one per row and modality; L2-normalized where the encoder's paper does so."""

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """The plain values beside the weights that determine the vectors: preprocessing, text template, outputs."""

    def uses(self, modality: Modality) -> bool:
        """Whether any of the vectors depends on the items' "image" or "text"; a fused one depends on both."""
        return modality in self.dims or FUSED in self.dims

    def fingerprint(self) -> str:
        """A digest of all that determines the vectors: weights and settings."""
        return fingerprint(type(self).__name__, self.settings(), self._weights or fingerprint(self.state_dict()))

    def with_modalities(self, modalities: Sequence[Modality]) -> Encoder:
        """The encoder with these modalities alone, on the same weights; others are neither read nor computed.

        No modality named means all. An encoder that is not `separable` is returned as it is.

        Raises:
            ConfigError: the encoder has no vectors of a modality.
        """
        for modality in modalities:
            if modality not in self.dims:
                raise ConfigError(
                    f"{type(self).__name__} has no '{modality}' vectors, it gives: {', '.join(self.dims)}."
                    f"{did_you_mean(modality, self.dims)}"
                )
        kept = {modality: dim for modality, dim in self.dims.items() if modality in modalities}
        if not self.separable or len(kept) in (0, len(self.dims)):
            return self
        part = copy.copy(self)
        part.dims = kept
        if self.outputs:
            part.outputs = "+".join(kept)
        return part

    def by_modality(self) -> tuple[Encoder, ...]:
        """Encoders of one modality each, with the same vectors between them; the encoder itself if not `separable`.

        Extraction runs them one after the other, so that an image with two different texts is encoded once. They share
        the weights and the fingerprint computed now, so they must not be used after the weights change.
        """
        if not self.separable or len(self.dims) == 1:
            return (self,)
        parts = tuple(self.with_modalities([modality]) for modality in self.dims)
        weights = fingerprint(self.state_dict())
        for part in parts:
            part._weights = weights
        return parts

    def sub_encoders(self) -> Mapping[str, Encoder]:
        """The encoders among its arguments, by the arguments' names."""
        return {}

    def towers(self) -> Mapping[Modality, Tower]:
        """The tower (stack of blocks) of each modality; without modalities that are not computed by such a stack."""
        return {}

    def recipes(self) -> Mapping[str, FinetuningRecipe]:
        """The published recipes of fine-tuning for a model of this size, by name: "official" and others."""
        return {}

    def names_file(self, item: Item) -> bool:
        """Whether an item names the file that the encoder reads: its image, or its sound."""
        return item.image is not None

    def unreadable(self, items: Sequence[Item], inputs: Inputs) -> Bool[Tensor, " batch"]:
        """The rows of the items' inputs without the image or sound whose file the item names."""
        has_file = inputs.has_image if inputs.sound_mask is None else inputs.sound_mask.any(dim=1)
        device = next(values.device for values in inputs if values is not None)
        if has_file is None:
            return torch.zeros(len(items), dtype=torch.bool, device=device)
        return torch.tensor([self.names_file(item) for item in items], dtype=torch.bool, device=device) & ~has_file

    def item_digest(self, item: Item) -> str:
        """A digest of the image and text of an item, as far as the encoder uses them."""
        image = item.image.digest() if item.image and self.uses("image") else ""
        return fingerprint(self.item_text(item) if self.uses("text") else "", image)

    def item_text(self, item: Item) -> str:
        """The text of an item by the encoder's template; empty where there is none."""
        return render(self.text, item.fields) if self.text and item.fields else ""

    def present(self, inputs: Inputs) -> dict[Modality, Bool[Tensor, " batch"]]:
        """The rows that have each modality of the vectors; a fused vector needs both image and text."""
        rows: dict[Modality, Tensor] = {}
        if inputs.pixels is not None:
            every_row = torch.ones(len(inputs.pixels), dtype=torch.bool, device=inputs.pixels.device)
            rows["image"] = every_row if inputs.has_image is None else inputs.has_image
        if inputs.text_mask is not None:
            rows["text"] = inputs.text_mask.any(dim=1)
        if inputs.sound_mask is not None:
            rows["audio"] = inputs.sound_mask.any(dim=1)
        if rows.keys() >= {"image", "text"}:
            rows[FUSED] = rows["image"] & rows["text"]
        return {modality: rows[modality] for modality in self.dims if modality in rows}

    def computable(self, inputs: Inputs) -> list[Modality]:
        """The modalities whose vectors can be computed from the inputs.

        Raises:
            ConfigError: they suffice for none.
        """
        has = {"image": inputs.pixels is not None, "text": inputs.text_ids is not None}
        has |= {FUSED: all(has.values()), "audio": inputs.spectrograms is not None}
        modalities = [modality for modality in self.dims if has.get(modality)]
        if not modalities:
            names = [name for name, values in inputs._asdict().items() if values is not None]
            raise ConfigError(
                f"{type(self).__name__} gives {', '.join(self.dims)}, for which the inputs have too little: "
                f"{', '.join(names) or 'nothing'}; an image is pixels, a text is text_ids and text_mask, a sound is "
                "spectrograms"
            )
        return modalities

    def learn_catalog(self, items: Sequence[Item]) -> None:
        """Fit what the encoder needs of the whole catalog before encoding, such as word frequencies."""


def is_encoder(annotation: object) -> bool:
    """Whether a parameter with this annotation is an encoder that another one is built from."""
    return annotation in (Encoder, Encoder | None)


def stack_pixels(
    items: Sequence[Item], to_pixels: Callable[[Image.Image], Float[Tensor, "channels height width"]]
) -> tuple[Float[Tensor, "batch channels height width"], Bool[Tensor, " batch"]]:
    """The items' images as one tensor, and which of them could be read; the others are zeros."""
    pixels = [_pixels(item, to_pixels) for item in items]
    has_image = torch.tensor([one is not None for one in pixels], dtype=torch.bool)
    readable = [one for one in pixels if one is not None]
    empty = torch.zeros_like(readable[0] if readable else to_pixels(Image.new("RGB", (8, 8))))
    return torch.stack([empty if one is None else one for one in pixels]), has_image


def stack_items(
    encoder: Encoder,
    items: Sequence[Item],
    to_pixels: Callable[[Image.Image], Float[Tensor, "channels height width"]],
    tokenize: Callable[[list[str]], tuple[Tensor, Tensor]],
) -> Inputs:
    """The items' pixels and token ids with their masks, each where the encoder reads it."""
    inputs = Inputs()
    if encoder.uses("image"):
        pixels, has_image = stack_pixels(items, to_pixels)
        inputs = inputs._replace(pixels=pixels, has_image=has_image)
    if encoder.uses("text"):
        ids, mask = tokenize([encoder.item_text(item) for item in items])
        inputs = inputs._replace(text_ids=ids, text_mask=mask)
    return inputs


def _pixels(item: Item, to_pixels: Callable[[Image.Image], Tensor]) -> Tensor | None:
    if item.image is None:
        return None
    try:
        return to_pixels(item.image.open())
    except ImageError:  # extraction counts and lists it
        return None
