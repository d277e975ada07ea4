"""The answers of a bundle, and the new items that it takes; with external ids throughout."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from torch import Tensor

from lmm4rec.core.types import ItemImage, Modality

NO_FIELDS: Mapping[str, str] = MappingProxyType({})


class Recommendation(NamedTuple):
    """An item of a list of recommendations, similar items or search results."""

    item: str
    title: str
    score: float


class HistoryItem(NamedTuple):
    """An item of a user's history."""

    item: str
    title: str
    when: int | None = None  # unix seconds, where the log has times


class NewItem(NamedTuple):
    """An item that the model was not trained on.

    `fields` are its texts by column ("title", "description", ...), `image` is its image or the bytes of one.
    `features` are its vectors by modality, where the bundle's encoder is not to compute them.
    """

    id: str
    fields: Mapping[str, str] = NO_FIELDS
    image: ItemImage | bytes | None = None
    features: Mapping[Modality, Tensor] | None = None

    def __repr__(self) -> str:
        content = [*self.fields, *([] if self.image is None else ["an image"]), *(self.features or {})]
        return f"NewItem({self.id!r}: {', '.join(content) or 'no content'})"


class Explanation(NamedTuple):
    """The explanation of an item's score for a user."""

    score: float
    shares: Mapping[str, float]  # the summand of each part of the model; they add up to the score
    nearest: list[Recommendation]  # of the user's items, the most similar ones; the score is the similarity
