"""End-to-end training of plans: the source of live features, and the trained encoder on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import atomic_folder
from lmm4rec.core.types import Features
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.experiments.conf.keys import end2end_components
from lmm4rec.experiments.conf.sections import FeaturesSection
from lmm4rec.features.adapters import as_plain, make_item_vectors, save_adapter
from lmm4rec.features.cached import TopBlocks
from lmm4rec.features.item_vectors import EncodedItems, ItemVectors
from lmm4rec.features.live import Live
from lmm4rec.features.state_cache import StatesCache
from lmm4rec.training.lr_schedule import LearningRateSchedule


def make_live(
    encoder: Encoder, catalog: Catalog, features: Features, section: FeaturesSection
) -> tuple[Live, LearningRateSchedule]:
    """The source of live features, which begins with the given ones, and the learning rates of what trains in it.

    Raises:
        ConfigError: the encoder cannot be trained, or not be saved, so that its trained weights would be lost.
    """
    if section.adapter != "side":
        _check_savable(encoder)
    schedule, live, adapter = (section.end2end_arguments(part) for part in end2end_components(section.adapter))
    vectors = make_item_vectors(encoder, catalog, section.adapter, section.arguments(StatesCache), **adapter)
    return Live(vectors, features, **live), LearningRateSchedule(**schedule)


def save_item_vectors(vectors: ItemVectors, folder: Path) -> None:
    """Write the trained encoder, and the adapter's weights, into a folder that is complete or absent.

    With LoRA the encoder has the updates in its weights; a side network is saved without the encoder, which has not
    changed.
    """
    with atomic_folder(folder) as beside:
        if isinstance(vectors, EncodedItems | TopBlocks):
            with as_plain(vectors):
                for name, encoder in _savable(vectors.encoder).items():
                    encoder.save_pretrained(beside / name)
        save_adapter(vectors, beside)


def _check_savable(encoder: Encoder) -> None:
    kept = {id(weight) for part in _savable(encoder).values() for weight in part.parameters()}
    if any(weight.requires_grad and id(weight) not in kept for weight in encoder.parameters()):
        raise ConfigError(
            f"{type(encoder).__name__} cannot be saved, so what it learns end to end would be lost; take an encoder "
            "that can, such as 'clip'"
        )


def _savable(encoder: Encoder) -> Mapping[str, Any]:
    """The encoder under ".", or the parts of a paired one, by their names in its [encoder] table."""
    if hasattr(encoder, "save_pretrained"):
        return {".": encoder}
    return {name: part for name, part in encoder.sub_encoders().items() if hasattr(part, "save_pretrained")}
