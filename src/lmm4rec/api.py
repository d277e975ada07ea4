"""The public face: what `import lmm4rec` gives."""

from __future__ import annotations

from typing import Any, cast

from lmm4rec.core.registry import ENCODERS, SOURCES
from lmm4rec.core.types import Inputs
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.filters import prepare
from lmm4rec.data.splits import Split, split
from lmm4rec.encoders.base import Encoder
from lmm4rec.experiments.build.encoders import make_encoder
from lmm4rec.experiments.conf.signature import check_names
from lmm4rec.experiments.run import run
from lmm4rec.features.extract import encode
from lmm4rec.serving.answers import NewItem
from lmm4rec.serving.bundle import Bundle

__all__ = [
    "Bundle", "Catalog", "Dataset", "Inputs", "NewItem", "Split", "encode", "load_dataset", "load_encoder", "prepare",
    "run", "split",
]  # fmt: skip


def load_dataset(name: str, **options: Any) -> Dataset:
    """A data set from a source ("table", "mmrec", "toyshop", ...), as it is; `lmm4rec.prepare` filters it.

    The options are those of the source, in `lmm4rec models` or its docstring:
    `load_dataset("table", path="my_shop")`, or with pandas or polars frames `load_dataset("table", interactions=log,
    items=items)`.

    Raises:
        ConfigError: the source or an option is unknown.
        DataError: the data cannot be read.
    """
    source = SOURCES.get(name)
    check_names(options, "data", source)
    return cast(Dataset, source(**options))


def load_encoder(name: str, *, catalog: Catalog | None = None, **options: Any) -> Encoder:
    """An encoder by name, with the keys of a conf's [encoder]: `load_encoder("clip", checkpoint="folder or hub name")`.

    `load_encoder("clip", checkpoint="toyshop")` is one that lmm4rec pre-trains itself, `checkpoint="tiny"` an untrained
    one with the vocabulary of the `catalog`. An encoder inside another is a mapping, as in a conf, or an encoder:
    `load_encoder("paired", image={"name": "color"}, text={"name": "words"})`.

    Raises:
        ConfigError: the encoder or an option is unknown, or there is nothing under the checkpoint.
    """
    check_names(options, "encoder", ENCODERS.get(name))
    return make_encoder({"name": name, **options}, catalog)
