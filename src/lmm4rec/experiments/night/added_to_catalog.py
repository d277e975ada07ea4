"""Items that were added to the service, as rows of the night's catalog."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.serving.added_items import AddedItem, AddedItems


def read_added(file: Path, ids: Collection[str]) -> list[AddedItem]:
    """The added items of these ids, in the order in which they were added; none where there is no file.

    Raises:
        CheckpointError: it is a file of another kind, or damaged.
    """
    if not ids or not file.is_file():
        return []
    stored = AddedItems(file)
    try:
        return [item for item in stored if item.id in ids]
    finally:
        stored.close()


def with_added(catalog: Catalog, items: Sequence[AddedItem]) -> Catalog:
    """The catalog with rows for added items after its own: their texts and images.

    A text in a column that the catalog lacks is left out, and the other columns are empty. No row of feature files
    belongs to them.
    """
    if not items:
        return catalog
    count, fields, attributes = len(items), catalog.fields, catalog.attributes
    texts = {name: [item.fields.get(name, "") for item in items] for name in fields.columns}
    return replace(
        catalog,
        ids=Vocabulary([*catalog.ids, *(item.id for item in items)], kind=catalog.ids.kind),
        fields=pl.concat([fields, pl.DataFrame(texts, schema=fields.schema)]) if fields.width else fields,
        images=(*catalog.images, *(item.item_image for item in items)),
        source_rows=np.append(catalog.source_rows, catalog.source_size + np.arange(count)),
        image_urls=(*catalog.image_urls, *[""] * count) if catalog.image_urls else (),
        attributes=pl.concat([attributes, attributes.clear(count)]) if attributes.width else attributes,
    )
