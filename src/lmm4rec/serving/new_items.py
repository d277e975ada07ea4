"""New items on their way in: checked, their content read, their image made small."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from lmm4rec.core.errors import DataError, did_you_mean
from lmm4rec.core.types import Features, Item, ItemImage
from lmm4rec.data.images import ImageBytes
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle_encoder import Reader
from lmm4rec.serving.catalog_view import Entry
from lmm4rec.serving.thumbnails import thumbnail


def as_image(image: ItemImage | bytes | None) -> ItemImage | None:
    """An image that may have come as bytes."""
    return ImageBytes(image) if isinstance(image, bytes) else image


def completed(item: NewItem, columns: Sequence[str]) -> NewItem:
    """The item with an empty text in every column of the catalog that it does not name.

    Raises:
        DataError: it names a text that the catalog has not.
    """
    for key in item.fields:
        if columns and key not in columns:
            raise DataError(
                f"item '{item.id}' has a text '{key}', the catalog has: {', '.join(columns)}."
                f"{did_you_mean(key, columns)}"
            )
    return item._replace(fields=dict.fromkeys(columns, "") | dict(item.fields))


def arrived(new: Sequence[NewItem], encoder: Callable[[], Reader]) -> tuple[Features, list[Entry]]:
    """The features of new items, and what is shown of them.

    Raises:
        DataError: an item has no content that the encoder sees.
        ImageError: an image cannot be read.
    """
    entries = [_entry(item) for item in new]
    given = [item.features for item in new if item.features is not None]
    if given and len(given) < len(new):
        raise DataError(f"{len(given)} of {len(new)} new items come with features; give them with all or with none")
    features = _stacked(given) if given else _read(new, encoder())
    has = torch.stack([(x != 0).any(1) for x in features.values()]).any(0)
    if not has.all():
        item = new[int(has.int().argmin())]
        raise DataError(
            f"item '{item.id}' has no content that the model sees ({', '.join(features)}): give it an image or words"
        )
    return features, entries


def _entry(item: NewItem) -> Entry:
    image, id_ = as_image(item.image), str(item.id)
    return Entry(id_, item.fields.get("title", "") or id_, item.fields, thumbnail(image) if image else None)


def _read(new: Sequence[NewItem], reader: Reader) -> Features:
    return reader.read([Item(str(item.id), item.fields, as_image(item.image)) for item in new])


def _stacked(given: Sequence[Mapping[str, Tensor]]) -> Features:
    shapes = [{modality: tuple(torch.as_tensor(x).shape) for modality, x in one.items()} for one in given]
    if not shapes[0] or any(shape != shapes[0] for shape in shapes):
        raise DataError(f"the features of new items must be of the same kinds and widths; got {shapes[:5]}")
    return {m: torch.stack([torch.as_tensor(one[m]).float() for one in given]) for m in given[0]}
