"""The encoder of a bundle: how it is written down, and how it turns new items and queries into vectors."""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import CheckpointError, DataError, LMM4RecError
from lmm4rec.core.progress import progress, quiet
from lmm4rec.core.registry import ENCODERS
from lmm4rec.core.types import Features, Item, ItemImage, Modality
from lmm4rec.encoders.base import FUSED, Encoder
from lmm4rec.encoding.loop import Manner, encode_blocks
from lmm4rec.features.side_files import SavedSide, SideEncoder

_SAME = 0.95  # the least cosine of one text's vectors, where precision or hardware may differ
_MANNER = Manner(torch.device("cpu"), "float32", 32, 0, 512)


@dataclass(frozen=True)
class EncoderRecord:
    """An encoder as plain values: its name and arguments, encoders inside it the same way.

    `saved` is a folder that its `save_pretrained` wrote; without one, the arguments say where its weights lie. A `side`
    network was trained beside it: the vectors are then those of both.
    """

    name: str
    arguments: Mapping[str, Any]
    saved: Path | None = None
    held: bool = False  # a bundle holds the weights, so they go where it goes
    side: SavedSide | None = None  # a bundle always holds it

    @classmethod
    def of_plain(cls, plain: Mapping[str, Any], *, inside: Path) -> EncoderRecord:
        """The record that `plain` told; relative folders lie `inside` one."""
        arguments = {
            key: cls.of_plain(value, inside=inside) if isinstance(value, Mapping) and "encoder" in value else value
            for key, value in plain["arguments"].items()
        }
        return cls(plain["encoder"], arguments, inside / plain["saved"] if "saved" in plain else None)

    def plain(self, inside: Path) -> dict[str, Any]:
        """The record as JSON can hold it; folders that lie `inside` one are told relative to it."""
        arguments = {
            key: value.plain(inside) if isinstance(value, EncoderRecord) else value
            for key, value in self.arguments.items()
        }
        told: dict[str, Any] = {"encoder": self.name, "arguments": arguments}
        if self.saved:
            here = self.saved.is_relative_to(inside)
            told["saved"] = str(self.saved.relative_to(inside) if here else self.saved.absolute())
        return told

    def make(self, catalog: Callable[[], Sequence[Item]]) -> Encoder:
        """The encoder, having learned the catalog where it does so.

        Raises:
            LMM4RecError: its weights are not where the record says.
            CheckpointError: they are others than those beside which the side network was trained.
        """
        encoder = self._made()
        encoder.learn_catalog(catalog())
        return (SideEncoder(encoder, self.side) if self.side else encoder).eval()

    def copied(self, folder: Path) -> EncoderRecord:
        """The record of a copy with its weights in `folder`; an encoder without weights stays as it is."""
        sides = {key: side for key, side in self.arguments.items() if isinstance(side, EncoderRecord)}
        if sides:
            copies = {key: side.copied(folder / key) for key, side in sides.items()}
            return replace(self, arguments={**self.arguments, **copies})
        encoder = self._made()
        if not hasattr(encoder, "save_pretrained"):
            return self
        folder.mkdir(parents=True, exist_ok=True)
        encoder.save_pretrained(folder)  # type: ignore[operator]
        return replace(self, saved=folder)

    def _made(self) -> Encoder:
        component = ENCODERS.get(self.name)
        if self.saved:
            copy: Encoder = component.from_pretrained(self.saved)
            return copy
        arguments = {
            key: value._made() if isinstance(value, EncoderRecord) else value for key, value in self.arguments.items()
        }
        encoder: Encoder = component(**arguments)
        return encoder


@dataclass(frozen=True)
class Reader:
    """An encoder at work on single items and queries, one pass a modality."""

    encoder: Encoder

    @cached_property
    def parts(self) -> dict[Modality, Encoder]:
        """For each modality that comes out, the part of the encoder that gives it."""
        return {modality: part for part in self.encoder.parts() for modality in part.dims}

    @property
    def joint(self) -> bool:
        """Whether words find images."""
        return self.encoder.joint

    @torch.no_grad()
    def read(self, items: Sequence[Item]) -> Features:
        """The vectors of items, zeros where one lacks a modality.

        Raises:
            ImageError: an image cannot be read.
        """
        found: dict[Modality, Tensor] = {}
        for part in dict.fromkeys(self.parts.values()):
            contents = {f"{row:032x}": item for row, item in enumerate(items)}
            with quiet(), progress(total=len(items), description="", unit="item") as bar:
                blocks = list(encode_blocks(part, contents, _MANNER, bar))
            for block in blocks:
                _refuse_broken(items, block.broken)
            found |= {m: torch.cat([block.features[m] for block in blocks]) for m in part.dims}
        return {modality: found[modality] for modality in self.encoder.dims}

    @torch.no_grad()
    def check(self, items: Sequence[Item], stored: Float[Tensor, "items dim"]) -> None:
        """Refuse an encoder that reads the items' words in another way than the one that made the `stored` vectors.

        One with a side network has been told by its weights, and without the images the words have other vectors.

        Raises:
            CheckpointError: its vectors point elsewhere.
        """
        part = self.parts.get("text")
        if part is None or not items or isinstance(part, SideEncoder):
            return
        likeness = F.cosine_similarity(part(part.prepare(items))["text"].float(), stored.float(), dim=1).min()
        if likeness < _SAME:
            raise CheckpointError(
                f"the encoder {type(self.encoder).__name__} gives other vectors than when this bundle was made (cosine "
                f"{likeness:.2f}): its checkpoint has changed; export with a copy of the encoder (lmm4rec export)"
            )

    def words(self, text: str) -> Float[Tensor, " dim"]:
        """The vector of a query in words.

        Raises:
            LMM4RecError: the encoder gives no vector for words alone.
        """
        part = self._alone("text", "words")
        keys = [key for _, key, _, _ in string.Formatter().parse(part.text) if key]
        key = "title" if "title" in keys or not keys else keys[0]
        return self._query(part, "text", Item("query", dict.fromkeys(keys, "") | {key: text}))

    def image(self, image: ItemImage) -> Float[Tensor, " dim"]:
        """The vector of a query by image.

        Raises:
            LMM4RecError: the encoder gives no vector for an image alone.
            ImageError: the image cannot be read.
        """
        image.open()
        return self._query(self._alone("image", "an image"), "image", Item("query", {}, image))

    def _alone(self, modality: Modality, what: str) -> Encoder:
        if modality in self.parts:
            return self.parts[modality]
        gives = ", ".join(self.encoder.dims)
        hint = " of both together" if FUSED in self.encoder.dims else ""
        raise LMM4RecError(
            f"the bundle's encoder {type(self.encoder).__name__} gives {gives} vectors{hint}, none for {what} alone; "
            f"export a run whose [encoder] gives {modality} to search so"
        )

    @torch.no_grad()
    def _query(self, part: Encoder, modality: Modality, item: Item) -> Float[Tensor, " dim"]:
        inputs = part.prepare([item])
        if not part.present(inputs)[modality][0]:
            raise DataError("the query is empty: give some words, or an image that can be read")
        return part(inputs)[modality][0].float()


def _refuse_broken(items: Sequence[Item], broken: Tensor) -> None:
    for row in broken.nonzero().flatten().tolist():
        image = items[row].image
        if image is not None:
            image.open()  # says what is wrong with it
            raise DataError(f"the image of item '{items[row].id}' cannot be read")
