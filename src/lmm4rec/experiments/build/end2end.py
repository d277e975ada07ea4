"""End-to-end training as a conf file asks for it: what computes items' vectors, the source around it, what is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Features
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.experiments.build.adapters import ADAPTERS, Adapter, as_plain, make_item_vectors, save_adapter
from lmm4rec.features.cached import TopBlocks
from lmm4rec.features.item_vectors import ItemVectors
from lmm4rec.features.live import Live
from lmm4rec.features.state_cache import StatesCache
from lmm4rec.features.whole_encoder import EncodedItems
from lmm4rec.training.lr_schedule import LearningRateSchedule


def options_of(adapter: Adapter) -> tuple[Callable[..., Any], ...]:
    """The components whose keyword arguments are the keys of [features.end2end]."""
    return (LearningRateSchedule, Live, ADAPTERS[adapter])


def make_live(encoder: Encoder, catalog: Catalog, features: Features, plan: Any) -> tuple[Live, LearningRateSchedule]:
    """The live source of a plan, which begins at the given features, and the rates at which it trains.

    Raises:
        ConfigError: the encoder cannot be trained, or not be saved, so that what it learns would be lost.
    """
    adapter = plan.tables["features"]["adapter"]
    if adapter != "side":
        _check_saving(encoder)
    rates, live, own = (plan.arguments("features.end2end", component) for component in options_of(adapter))
    encoding = plan.arguments("features", StatesCache)
    vectors = make_item_vectors(encoder, catalog, adapter, encoding, **own)
    return Live(vectors, features, **live), LearningRateSchedule(**rates)


def save_item_vectors(vectors: ItemVectors, folder: Path) -> None:
    """Write the trained encoder, and what an adapter has learned, into a folder that is whole or not there.

    With LoRA the encoder has the updates in its weights; a side network comes without the encoder, which is as it was.
    """
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        if isinstance(vectors, EncodedItems | TopBlocks):
            with as_plain(vectors):
                for name, encoder in _savable(vectors.encoder).items():
                    encoder.save_pretrained(beside / name)
        save_adapter(vectors, beside)
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
    """The encoder under ".", or the sides of one that is made of others, by their names in its [encoder] table."""
    if hasattr(encoder, "save_pretrained"):
        return {".": encoder}
    return {name: part for name, part in encoder.sides().items() if hasattr(part, "save_pretrained")}
