"""Example shop: the toy shop written as tables and a folder of images, with a conf that reads it."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import atomic, storage_errors, write_text
from lmm4rec.core.progress import progress
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.images import open_for_display
from lmm4rec.data.sources import toyshop

_SIDE = 192  # pixels of the images on disk

CONF = """title = "VBPR on my own shop"

[data]
name = "table"
path = "{path}"              # a folder with interactions.csv and items.csv (or .tsv, .parquet, .jsonl)
k_core = 0                    # 5 keeps only users and items with at least 5 interactions

[encoder]
name = "paired"               # one encoder for the images, one for the texts; neither needs weights
image = {{ name = "color" }}
text = {{ name = "words", text = "{{title}}. {{description}}" }}

[recommender]
name = "vbpr"

[train]
epochs = 60
batch_size = 1024
learning_rate = 3e-3
evaluate_every = 2
patience = 8
"""


def write_example(folder: Path, *, image_side: int = _SIDE) -> Path:
    """Write the toy shop as `items.csv`, `interactions.csv` and `images/`, and beside it a conf; returns the conf.

    Raises:
        ConfigError: the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty; name a folder that is not there yet")
    dataset = toyshop.load()
    with storage_errors(folder):
        _write_images(dataset, folder, image_side)
    _write_frame(_items(dataset), folder / "items.csv")
    _write_frame(_interactions(dataset), folder / "interactions.csv")
    conf = folder.with_suffix(".conf")
    write_text(conf, CONF.format(path=folder.as_posix()))
    return conf


def _write_images(dataset: Dataset, folder: Path, side: int) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    bar = progress(total=dataset.n_items, description="drawing", unit="image")
    for id_, image in zip(dataset.items, dataset.catalog.images, strict=True):
        if image is not None:
            open_for_display(image, side).save(folder / "images" / f"{id_}.png")
        bar.update()
    bar.close()


def _items(dataset: Dataset) -> pl.DataFrame:
    pairs = zip(dataset.items, dataset.catalog.images, strict=True)
    images = [f"images/{id_}.png" if image is not None else "" for id_, image in pairs]
    return dataset.catalog.fields.select(pl.Series("item_id", list(dataset.items)), pl.all(), image=pl.Series(images))


def _interactions(dataset: Dataset) -> pl.DataFrame:
    log = dataset.interactions
    users, items = (
        [ids[row] for row in rows] for ids, rows in ((dataset.users, log.users), (dataset.items, log.items))
    )
    columns = {"user_id": users, "item_id": items, "rating": log.ratings, "timestamp": log.timestamps}
    return pl.DataFrame({name: values for name, values in columns.items() if values is not None})


def _write_frame(frame: pl.DataFrame, path: Path) -> None:
    with atomic(path) as beside:
        frame.write_csv(beside)
