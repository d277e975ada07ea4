"""New items before a bundle takes them: checked, encoded, with a thumbnail."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lmm4rec.core.errors import DataError, did_you_mean
from lmm4rec.core.types import Features, Item, ItemImage
from lmm4rec.data.catalog import shown_title
from lmm4rec.data.images import ImageBytes
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.catalog_view import CatalogEntry
from lmm4rec.serving.content_encoder import ContentEncoder
from lmm4rec.serving.thumbnails import thumbnail


def as_image(image: ItemImage | bytes | None) -> ItemImage | None:
    """The image, which may be given as bytes."""
    return ImageBytes(image) if isinstance(image, bytes) else image


def with_all_fields(item: NewItem, columns: Sequence[str]) -> NewItem:
    """The item with an empty text in every column of the catalog that it lacks.

    Raises:
        DataError: it has a column that the catalog lacks.
    """
    for key in item.fields:
        if columns and key not in columns:
            raise DataError(
                f"item '{item.id}' has a field '{key}', the catalog has: {', '.join(columns)}."
                f"{did_you_mean(key, columns)}"
            )
    return item._replace(fields=dict.fromkeys(columns, "") | dict(item.fields))


def encode_new_items(
    new: Sequence[NewItem], encoder: Callable[[], ContentEncoder]
) -> tuple[Features, list[CatalogEntry]]:
    """The features of new items, and their catalog entries.

    Raises:
        DataError: an item has no content that the encoder encodes.
        ImageError: an image cannot be read.
    """
    entries = [_entry(item) for item in new]
    given = [item.features for item in new if item.features is not None]
    if given and len(given) < len(new):
        raise DataError(f"{len(given)} of {len(new)} new items come with features; give them with all or with none")
    features = _stacked(given) if given else _encoded(new, encoder())
    has = torch.stack([(x != 0).any(1) for x in features.values()]).any(0)
    if not has.all():
        item = new[int(has.int().argmin())]
        raise DataError(
            f"item '{item.id}' has no content that the model uses ({', '.join(features)}): give it an image or a text"
        )
    return features, entries


def _entry(item: NewItem) -> CatalogEntry:
    image, id_ = as_image(item.image), str(item.id)
    title = shown_title(item.fields.get("title", ""), id_)
    return CatalogEntry(id_, title, item.fields, thumbnail(image) if image else None)


def _encoded(new: Sequence[NewItem], encoder: ContentEncoder) -> Features:
    return encoder.encode([Item(str(item.id), item.fields, as_image(item.image)) for item in new])


def _stacked(given: Sequence[Mapping[str, Tensor]]) -> Features:
    shapes = [{modality: tuple(torch.as_tensor(x).shape) for modality, x in one.items()} for one in given]
    if not shapes[0] or any(shape != shapes[0] for shape in shapes):
        raise DataError(f"the features of new items must have the same modalities and widths; got {shapes[:5]}")
    return {m: torch.stack([torch.as_tensor(one[m]).float() for one in given]) for m in given[0]}
