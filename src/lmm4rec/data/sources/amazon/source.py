"""The Amazon review data of 2014, 2018 and 2023, from its files as published: reviews, texts and images of items."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
from typing_extensions import Doc

from lmm4rec.core.errors import DataError
from lmm4rec.core.types import NonNegativeInt
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.sources.amazon.editions import EDITIONS, EditionName
from lmm4rec.data.sources.amazon.image_folder import find_images
from lmm4rec.data.sources.amazon.item_metadata import ImageSize, read_items
from lmm4rec.data.sources.amazon.reviews import compact, early_core, read_reviews

__all__ = ["load"]


def load(
    *,
    path: Annotated[str | Path, Doc("Folder of the files, such as reviews_Baby_5.json.gz and meta_Baby.json.gz.")],
    category: Annotated[str, Doc("Category as the files spell it.")],
    edition: Annotated[EditionName, Doc("Edition of the data set.")] = "2014",
    images: Annotated[str, Doc("Folder of the images, relative to path; each is named by its item's id.")] = "images",
    image_size: Annotated[ImageSize, Doc("Size of the images to download; the nearest where it is missing.")] = "large",
    rating_at_least: Annotated[float | None, Doc("Leave out reviews with a lower rating while reading.")] = None,
    early_core: Annotated[NonNegativeInt, Doc("Leave out while reading what no such k-core holds: less memory.")] = 0,
    reviews: Annotated[str | None, Doc("File of reviews, relative to path, where it has another name.")] = None,
    metadata: Annotated[str | None, Doc("File of metadata, relative to path, where it has another name.")] = None,
) -> Dataset:
    """One category of the Amazon review data; `lmm4rec data download` fetches its files and images.

    Files are read as streams, plain, gzip or (2023) Parquet; memory holds numbers of the reviews, not their texts. Each
    item that has a review is in the catalog, with title, brand (2023: store), categories, description and, from 2018
    on, features. Lines that cannot be read are set aside and counted, and items without metadata or image are listed.

    Raises:
        DataError: a file is missing or damaged, or nothing is left.
    """
    folder, layout = Path(path), EDITIONS[edition]
    if not folder.is_dir():
        raise DataError(f"data.path = '{path}' is no folder; `lmm4rec data download` fetches the files of a category")
    review_files = layout.find_reviews(folder, category) if reviews is None else [_file(folder / reviews)]
    meta_files = layout.find_meta(folder, category) if metadata is None else [_file(folder / metadata)]
    log = read_reviews(review_files, layout, rating_at_least)
    if early_core:
        log = _early_core(log, early_core)
    users, user_ids = compact(log.users, log.user_ids)
    items, item_ids = compact(log.items, log.item_ids)
    table = read_items(meta_files, layout, item_ids, image_size)
    found_images, on_images = find_images(folder / images, item_ids, table.image_urls)
    catalog = Catalog(
        ids=Vocabulary(item_ids),
        fields=table.fields,
        images=found_images,
        source_rows=np.arange(len(item_ids)),
        source_size=len(item_ids),
        image_urls=table.image_urls,
    )
    return Dataset(
        name=f"{category} (Amazon {edition})",
        users=Vocabulary(user_ids, kind="user"),
        catalog=catalog,
        interactions=Interactions(users, items, ratings=log.ratings, timestamps=log.timestamps),
        findings=(*log.findings, *table.findings, *on_images),
    )


_early_core = early_core  # `load` has an argument of that name


def _file(path: Path) -> Path:
    if not path.is_file():
        raise DataError(f"{path} is {'a folder' if path.is_dir() else 'missing'}; expected a file")
    return path
