"""What a bundle answers with, and the new item that it is told of; external ids throughout."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from lmm4rec.core.types import ItemImage, Modality

NOTHING: Mapping[str, str] = MappingProxyType({})


class Recommendation(NamedTuple):
    """One recommended (or similar, or found) item."""

    item: str
    title: str
    score: float


class Seen(NamedTuple):
    """One item of a user's history."""

    item: str
    title: str
    when: int | None = None  # unix seconds, where the log says so


class NewItem(NamedTuple):
    """An item that the model has not seen.

    `fields` are its texts by column ("title", "description", ...), `image` is its image or the bytes of one.
    `features` are its vectors by modality, where they do not come from the bundle's encoder.
    """

    id: str
    fields: Mapping[str, str] = NOTHING
    image: ItemImage | bytes | None = None
    features: Mapping[Modality, Tensor] | None = None


class Explanation(NamedTuple):
    """Why an item has its score for a user."""

    score: float
    shares: Mapping[str, float]  # what each part of the model gives; they add up to the score
    nearest: list[Recommendation]  # of what the user has, the most similar to the item; the score is the similarity
