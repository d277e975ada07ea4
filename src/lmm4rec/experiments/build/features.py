"""The features that a conf file asks for: read from files, or extracted, where asked for after tuning the encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from lmm4rec.core.device import choose_device
from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.core.types import Features, NonNegativeInt, PositiveInt
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.findings import Finding, counted
from lmm4rec.encoders.base import Encoder
from lmm4rec.encoding.sizing import Precision
from lmm4rec.experiments.build.adapters import Adapter
from lmm4rec.experiments.build.own_encoders import fine_tuned
from lmm4rec.features.extract import Extracted, extract
from lmm4rec.features.store import FeatureStore


def catalog_features(
    catalog: Catalog,
    encoder: Encoder,
    *,
    train: Literal["frozen", "finetuned", "end2end"] = "frozen",
    finetune: Mapping[str, Any] | None = None,
    adapter: Adapter = "none",
    end2end: Mapping[str, Any] | None = None,
    modalities: Sequence[str] = (),
    batch_size: PositiveInt | Literal["auto"] = "auto",
    memory_mb: PositiveInt = 1024,
    workers: NonNegativeInt | Literal["auto"] = "auto",
    precision: Precision = "auto",
    device: str = "auto",
    strict: bool = False,
) -> Extracted:
    """The features of a catalog from the feature store, encoded where they are not there yet.

    `train = "finetuned"` first tunes the encoder on the catalog's own pairs of image and words (`finetune` holds
    the arguments of `fit_pairs`). "end2end" begins at the encoder's features as they are; `adapter` says what of it
    trains, and `end2end` holds the arguments of `end2end.options_of`. The other options are those of `extract`.
    """
    tuning_seconds = 0.0
    if train == "finetuned":
        encoder, tuning_seconds = fine_tuned(encoder, catalog, finetune or {})
    extracted = extract(
        encoder,
        catalog,
        store=FeatureStore(),
        batch_size=batch_size,
        memory_mb=memory_mb,
        workers=workers,
        precision=precision,
        device=str(choose_device(device)),
        strict=strict,
    )
    return replace(extracted, made_seconds=extracted.made_seconds + tuning_seconds)


def untuned(catalog: Catalog, encoder: Encoder, *, train: str, **options: Any) -> Features:
    """The features before the encoder is tuned, to compare with those after it; empty where it is not tuned.

    They are in the feature store where the same encoder is used frozen in another run.
    """
    return catalog_features(catalog, encoder, **options).features if train == "finetuned" else {}


def broken_images(extracted: Extracted, items: int) -> tuple[Finding, ...]:
    """A finding on the images that could not be read, where there are any."""
    broken = extracted.broken
    if not broken:
        return ()
    message = (
        f"{counted(len(broken), 'item')} of {items:,} named an image that could not be read when the features were "
        "made; treated as having no image"
    )
    return (Finding("broken-image", "warning", len(broken), message, tuple(f"item {id_}" for id_ in broken[:10])),)


def chosen(features: Features, modalities: Sequence[str]) -> Features:
    """The named modalities of the features; all where none is named.

    Raises:
        ConfigError: a modality is not there.
    """
    for modality in modalities:
        if modality not in features:
            raise ConfigError(
                f"features.modalities names '{modality}', the encoder gives: {', '.join(features)}."
                f"{did_you_mean(modality, features)}"
            )
    return {modality: features[modality] for modality in modalities or features}
