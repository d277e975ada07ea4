"""The vectors of new items and of queries, from the encoder of a bundle."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import CheckpointError, DataError, LMM4RecError
from lmm4rec.core.progress import progress, quiet
from lmm4rec.core.types import Features, Item, ItemImage, Modality
from lmm4rec.encoders.base import FUSED, Encoder
from lmm4rec.encoding.batches import ResolvedOptions, encode_blocks
from lmm4rec.features.side_files import SideEncoder
from lmm4rec.serving.catalog_view import CatalogView
from lmm4rec.serving.encoder_record import EncoderRecord

_LEAST_COSINE = 0.95  # of one text's vectors by the same encoder, with another precision or hardware
_COMPARED_ITEMS = 4  # whose texts an opened encoder must encode as before
_OPTIONS = ResolvedOptions(torch.device("cpu"), "float32", batch_size=32, workers=0, block_size=512)


@dataclass(frozen=True)
class ContentEncoder:
    """An encoder of new items and queries, one pass a modality."""

    encoder: Encoder

    @classmethod
    def open(cls, record: EncoderRecord, catalog: CatalogView, features: Features) -> ContentEncoder:
        """The encoder of a record, compared with the bundle's `features` that it computed.

        Raises:
            LMM4RecError: its weights are not where the record says.
            CheckpointError: its vectors are others than the bundle's.
        """
        content_encoder = cls(record.build(catalog.catalog_items))
        if "text" in features:
            rows = features["text"][: len(catalog.catalog)].any(1).nonzero()[:_COMPARED_ITEMS, 0]
            content_encoder.check(catalog.catalog_items(rows.tolist()), features["text"][rows])
        return content_encoder

    @cached_property
    def parts(self) -> dict[Modality, Encoder]:
        """The part of the encoder that computes each modality."""
        return {modality: part for part in self.encoder.by_modality() for modality in part.dims}

    @property
    def joint(self) -> bool:
        """Whether text and images are encoded into one space, so that text finds images."""
        return self.encoder.joint

    @torch.no_grad()
    def encode(self, items: Sequence[Item]) -> Features:
        """The vectors of items, zeros where one lacks a modality.

        Raises:
            ImageError: an image cannot be read.
        """
        found: dict[Modality, Tensor] = {}
        for part in dict.fromkeys(self.parts.values()):
            with quiet(), progress(total=len(items), description="", unit="item") as bar:
                blocks = list(encode_blocks(part, items, _OPTIONS, bar))
            for block in blocks:
                _raise_if_broken(items, block.broken)
            found |= {m: torch.cat([block.features[m] for block in blocks]) for m in part.dims}
        return {modality: found[modality] for modality in self.encoder.dims}

    @torch.no_grad()
    def check(self, items: Sequence[Item], stored: Float[Tensor, "items dim"]) -> None:
        """Compare the encoder's vectors of the items' text with the `stored` ones.

        An encoder with a side network is recognized by its weights; its vectors of text depend on the images, too.

        Raises:
            CheckpointError: the vectors differ.
        """
        part = self.parts.get("text")
        if part is None or not items or isinstance(part, SideEncoder):
            return
        cosine = F.cosine_similarity(part(part.prepare(items))["text"].float(), stored.float(), dim=1).min()
        if cosine < _LEAST_COSINE:
            raise CheckpointError(
                f"the encoder {type(self.encoder).__name__} gives other vectors than when this bundle was written "
                f"(cosine {cosine:.2f}): its checkpoint has changed; export with a copy of the encoder (lmm4rec export)"
            )

    def encode_text(self, text: str) -> Float[Tensor, " dim"]:
        """The vector of a query by text.

        Raises:
            LMM4RecError: the encoder gives no vector for text alone.
        """
        part = self._part("text", "text")
        keys = [key for _, key, _, _ in string.Formatter().parse(part.text) if key]
        key = "title" if "title" in keys or not keys else keys[0]
        return self._query(part, "text", Item("query", dict.fromkeys(keys, "") | {key: text}))

    def encode_image(self, image: ItemImage) -> Float[Tensor, " dim"]:
        """The vector of a query by image.

        Raises:
            LMM4RecError: the encoder gives no vector for an image alone.
            ImageError: the image cannot be read.
        """
        image.open()
        return self._query(self._part("image", "an image"), "image", Item("query", {}, image))

    def _part(self, modality: Modality, query: str) -> Encoder:
        if modality in self.parts:
            return self.parts[modality]
        gives = ", ".join(self.encoder.dims)
        hint = " of both together" if FUSED in self.encoder.dims else ""
        raise LMM4RecError(
            f"the bundle's encoder {type(self.encoder).__name__} gives {gives} vectors{hint}, none for {query} alone; "
            f"for such a search, export a run whose [encoder] gives {modality} vectors"
        )

    @torch.no_grad()
    def _query(self, part: Encoder, modality: Modality, item: Item) -> Float[Tensor, " dim"]:
        inputs = part.prepare([item])
        if not part.present(inputs)[modality][0]:
            raise DataError("the query is empty: give a text, or an image that can be read")
        return part(inputs)[modality][0].float()


def _raise_if_broken(items: Sequence[Item], broken: Tensor) -> None:
    for row in broken.nonzero().flatten().tolist():
        image = items[row].image
        if image is not None:
            image.open()  # raises the error that says what is wrong with it
            raise DataError(f"the image of item '{items[row].id}' cannot be read")
