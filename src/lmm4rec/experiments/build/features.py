"""Features of plans: read from files, or encoded, after fine-tuning of the encoder where the plan says so."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import tomli_w
import torch

from lmm4rec.core.device import choose_device
from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.core.types import Features
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.feature_files import read_shipped
from lmm4rec.data.findings import Finding, counted
from lmm4rec.distributed.pool import Pool
from lmm4rec.encoders.base import Encoder
from lmm4rec.evaluation.alignment import measure_alignment
from lmm4rec.experiments.build.data import DataCache, log_findings
from lmm4rec.experiments.build.encoders import finetuned, finetuning_record, make_encoder
from lmm4rec.experiments.conf.sections import EncoderSection, FeaturesSection
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import Plan, make_plan
from lmm4rec.features.ablation import altered, differs_at_test
from lmm4rec.features.extract import Extracted, extract
from lmm4rec.features.pool_extract import EncodingWorkers
from lmm4rec.features.rotation import Axes
from lmm4rec.features.store import FeatureStore


@dataclass(frozen=True)
class RunFeatures:
    """The features of a run, with their cost and findings."""

    features: Features  # as the recommender reads them
    at_test: Features | None = None  # those of the test, where they differ ([features] hide_at)
    encoder: Encoder | None = None  # to be trained end to end
    cost: Mapping[str, float | int] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    encoding: Mapping[str, Any] = field(default_factory=dict)  # "precision", "broken_images", "fine_tuning"
    alignment: Mapping[str, Any] = field(default_factory=dict)  # "before" and "after" where the encoder was fine-tuned
    encoded: Features = field(default_factory=dict)  # where these are others than `features`
    axes: Axes = field(default_factory=dict)  # onto which these were rotated

    @property
    def of_encoder(self) -> Features:
        """The features as the encoder gives them."""
        return self.encoded or self.features


def load_features(
    plan: Plan, catalog: Catalog, encoder: Encoder | None = None, *, pool: Pool | None = None
) -> RunFeatures:
    """The plan's features; none without an [encoder] table. `encoder` is the plan's, if it is loaded already.

    A pool encodes a frozen encoder's vectors by its workers.

    Raises:
        ConfigError: a modality is named that the encoder does not give.
    """
    if plan.encoder is None:
        return RunFeatures({})
    if plan.encoder.is_precomputed:
        return _read(plan.encoder, plan.features, catalog)
    encoder = encoder or make_encoder(plan.encoder.table, catalog)
    if plan.features.train == "end2end":
        return _encoded(plan.features, encoder, catalog, to_train=encoder)
    if plan.features.train == "frozen":
        return _encoded(plan.features, encoder, catalog, workers=encoding_workers(plan, pool))
    record = finetuning_record(encoder, plan.features.finetune_arguments)
    before = measure_alignment(_extract(plan.features, encoder, catalog).features)
    tuned, seconds = finetuned(encoder, catalog, plan.features.finetune_arguments)
    features = _encoded(plan.features, tuned, catalog, before=before, finetuning_s=seconds)
    return replace(features, encoding={**features.encoding, "fine_tuning": record})


def encoding_workers(plan: Plan, pool: Pool | None) -> EncodingWorkers | None:
    """The workers of a pool that encode with the plan's encoder; none without a pool."""
    if pool is None:
        return None
    conf = tomli_w.dumps({"title": plan.title, **plan.tables})
    return EncodingWorkers(pool, _encoder_of, (conf,), plan.features.device)


def _encoder_of(conf: str) -> Encoder:
    """The encoder of a conf, which has learned its catalog; loaded by a worker."""
    plan = make_plan(load_spec(tomllib.loads(conf)))
    if plan.encoder is None:
        raise ConfigError("the conf has no [encoder] table")
    catalog = DataCache().dataset(plan).catalog
    encoder = make_encoder(plan.encoder.table, catalog)
    encoder.learn_catalog(catalog[:])
    return encoder


def _read(encoder: EncoderSection, section: FeaturesSection, catalog: Catalog) -> RunFeatures:
    shipped = read_shipped(catalog, **encoder.arguments(read_shipped))
    features = {modality: torch.from_numpy(rows) for modality, rows in shipped.items()}
    train, at_test = _altered(section, _selected(features, section.modalities))
    return RunFeatures(train, at_test, alignment=measure_alignment(features))


def _encoded(
    section: FeaturesSection,
    encoder: Encoder,
    catalog: Catalog,
    *,
    to_train: Encoder | None = None,
    before: Mapping[str, float] | None = None,
    finetuning_s: float = 0.0,
    workers: EncodingWorkers | None = None,
) -> RunFeatures:
    extracted = _extract(section, encoder, catalog, workers)
    findings = _broken_images(extracted, len(catalog))
    log_findings(findings)
    measured = measure_alignment(extracted.features)
    train, at_test = _altered(section, extracted.features)
    return RunFeatures(
        train,
        at_test,
        to_train,
        cost={
            "items_encoded": extracted.encoded,
            "items_reused": extracted.reused,
            "features_seconds": round(extracted.encoding_seconds + finetuning_s, 3),
        },
        findings=findings,
        encoding={"precision": extracted.precision, "broken_images": list(extracted.broken)},
        alignment={"before": before, "after": measured} if before and measured else measured,
    )


def _extract(
    section: FeaturesSection, encoder: Encoder, catalog: Catalog, workers: EncodingWorkers | None = None
) -> Extracted:
    options = section.arguments(extract) | {"device": str(choose_device(section.device))}
    return extract(encoder, catalog, store=FeatureStore(), pool=workers, **options)


def _altered(section: FeaturesSection, features: Features) -> tuple[Features, Features | None]:
    """The features of training and, where they differ, of the test, as `ablate` and `hide` ask for."""
    options = section.arguments(altered)
    differs = differs_at_test(options.get("hide"), options["hide_at"])
    return altered(features, "train", **options), altered(features, "test", **options) if differs else None


def _selected(features: Features, modalities: Sequence[str]) -> Features:
    """The named modalities of the features; all where none is named."""
    for modality in modalities:
        if modality not in features:
            raise ConfigError(
                f"features.modalities names '{modality}', the encoder gives: {', '.join(features)}."
                f"{did_you_mean(modality, features)}"
            )
    return {modality: features[modality] for modality in modalities or features}


def _broken_images(extracted: Extracted, items: int) -> tuple[Finding, ...]:
    broken = extracted.broken
    if not broken:
        return ()
    message = (
        f"{counted(len(broken), 'item')} of {items:,} named an image or sound that could not be read when the features "
        "were encoded; treated as having none"
    )
    return (Finding("broken-image", "warning", len(broken), message, tuple(f"item {id_}" for id_ in broken[:10])),)
