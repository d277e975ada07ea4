"""End-to-end training as a conf file asks for it: what computes items' vectors, the source around it, what is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Features
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.features.encoded import EncodedItems
from lmm4rec.features.items import ItemVectors
from lmm4rec.features.live import Live
from lmm4rec.training.rates import Rates

Adapter = Literal["none"]

OPTIONS = (Rates, Live, EncodedItems)
"""The components whose keyword arguments are the keys of [features.end2end]."""


def make_item_vectors(
    encoder: Encoder, catalog: Catalog, adapter: Adapter = "none", *, shown: bool = True, **options: Any
) -> ItemVectors:
    """What computes the vectors of a catalog's items and trains: with adapter "none" the whole encoder.

    The encoder has learned the catalog; the options are those of the adapter.
    """
    encoder.learn_catalog(catalog[:])
    return EncodedItems(encoder, catalog[:], shown, **options)


def make_live(
    encoder: Encoder, catalog: Catalog, features: Features, plan: Any, *, shown: bool = True
) -> tuple[Live, Rates]:
    """The live source of a plan, which begins at the given features, and the rates at which it trains.

    Raises:
        ConfigError: the encoder cannot be trained, or not be saved, so that what it learns would be lost.
    """
    _check_saving(encoder)
    adapter = plan.tables["features"]["adapter"]
    options = {component: plan.arguments("features.end2end", component) for component in OPTIONS}
    vectors = make_item_vectors(encoder, catalog, adapter, shown=shown, **options[EncodedItems])
    return Live(vectors, features, **options[Live]), Rates(**options[Rates])


def save_item_vectors(vectors: ItemVectors, folder: Path) -> None:
    """Write the trained encoder into a folder that is whole or not there."""
    if not isinstance(vectors, EncodedItems):
        raise ConfigError(f"there is no way to save {type(vectors).__name__}")
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        for name, encoder in _savable(vectors.encoder).items():
            encoder.save_pretrained(beside / name)
        shutil.rmtree(folder, ignore_errors=True)
        beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _check_saving(encoder: Encoder) -> None:
    kept = {id(weight) for part in _savable(encoder).values() for weight in part.parameters()}
    if any(weight.requires_grad and id(weight) not in kept for weight in encoder.parameters()):
        raise ConfigError(
            f"{type(encoder).__name__} cannot be saved, so what it learns end to end would be lost; take an encoder "
            "that can, such as 'clip'"
        )


def _savable(encoder: Encoder) -> Mapping[str, Any]:
    """The encoder under ".", or the sides of one that is made of others by their names."""
    if hasattr(encoder, "save_pretrained"):
        return {".": encoder}
    return {name: part for name, part in encoder.named_children() if hasattr(part, "save_pretrained")}
