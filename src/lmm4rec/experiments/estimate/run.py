"""Estimate of a whole run: encoding, fine-tuning, caches, training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lmm4rec.core.device import choose_device
from lmm4rec.core.progress import quiet
from lmm4rec.core.types import Features
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.encoders import make_encoder
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.build.recommender_features import recommender_features
from lmm4rec.experiments.build.recommenders import make_sampler
from lmm4rec.experiments.checks import require_runnable
from lmm4rec.experiments.conf.spec import Table, load_spec
from lmm4rec.experiments.estimate.end2end import estimate_end2end
from lmm4rec.experiments.estimate.estimate import MB, Estimate, in_turn, parameter_counts, seconds_of, weights_bytes
from lmm4rec.experiments.estimate.finetuning import estimate_finetuning
from lmm4rec.experiments.estimate.training import estimate_training
from lmm4rec.experiments.plan import Plan, make_plan
from lmm4rec.features.adapters import ADAPTERS, cached_top, make_cache, make_item_vectors
from lmm4rec.features.item_vectors import EncodedItems
from lmm4rec.features.state_cache import StatesCache
from lmm4rec.training.sampler import RankingSampler

_ITEMS = 8  # that are encoded in a trial


def estimate_run(conf: str | Path | Table, overrides: Table | None = None) -> Estimate:
    """The estimate of the run of a conf file; nothing is trained or stored.

    It counts the encoding of the whole catalog, also where features are in the store already.

    Raises:
        ConfigError: the run would not begin.
    """
    plan, data = make_plan(load_spec(conf, overrides)), DataCache()
    split = data.split(plan)
    require_runnable(plan, split)
    catalog = split.dataset.catalog
    parts: list[Estimate] = []
    if plan.encoder is None or plan.encoder.is_precomputed:
        what = plan.recommender.label
        with quiet():
            features = recommender_features(plan, load_features(plan, catalog)).features
    else:
        what = f"{plan.recommender.label} on {plan.encoder.label}, {plan.features.label}"
        encoder = make_encoder(plan.encoder.table, catalog)
        encoder.learn_catalog(catalog[:])
        encoder.to(choose_device(plan.features.device))
        parts = list(_encoder_parts(plan, encoder, catalog, make_sampler(plan, split)))
        dims = {modality: encoder.dims[modality] for modality in plan.features.modalities or encoder.dims}
        features = random_features(dims, len(catalog))
    training = estimate_training(plan, split, features)
    encoders = in_turn(what, parts)
    total = in_turn(what, [*parts, training])
    return replace(
        total,
        memory_mb=encoders.memory_mb + training.memory_mb,
        parameters=encoders.parameters + training.parameters,
        trainable=encoders.trainable + training.trainable,
    )


def random_features(dims: Mapping[str, int], items: int) -> Features:
    """Random features of these widths, which stand for an encoder's in a trial."""
    generator = torch.Generator().manual_seed(0)
    return {modality: torch.randn(items, dim, generator=generator) for modality, dim in dims.items()}


def _encoder_parts(plan: Plan, encoder: Encoder, catalog: Catalog, sampler: RankingSampler) -> Iterator[Estimate]:
    """The estimates of what a run does with its encoder, in order."""
    yield estimate_encoding(encoder.with_modalities(plan.features.modalities), catalog)
    if plan.features.train == "finetuned":
        yield estimate_finetuning(encoder, catalog, plan.features.finetune_arguments)
    if plan.features.train == "end2end":
        yield from _end2end_parts(plan, encoder, catalog, sampler)


def estimate_encoding(encoder: Encoder, catalog: Catalog) -> Estimate:
    """The estimate of encoding a catalog."""
    items = _few(catalog)[:]
    device = next((weight.device for weight in encoder.parameters()), torch.device("cpu"))

    def encode() -> None:
        prepared = encoder.prepare(items)
        with torch.no_grad():
            encoder(prepared.to(device))

    item_s = seconds_of(encode, device) / len(items)
    return Estimate(
        "encoding the catalog",
        seconds=len(catalog) * item_s,
        memory_mb=weights_bytes(encoder, training=False) / MB,
        forward_passes=len(catalog),
        items_per_s=1 / item_s,
        parameters=parameter_counts(encoder)[0],
    )


def _end2end_parts(plan: Plan, encoder: Encoder, catalog: Catalog, sampler: RankingSampler) -> Iterator[Estimate]:
    """The cache of an adapter, where it has one, and training."""
    adapter, encoding = plan.features.adapter, plan.features.arguments(StatesCache)
    options = plan.features.end2end_arguments(ADAPTERS[adapter])
    if adapter in ("last", "side"):
        yield _cache(make_cache(encoder, catalog, encoding, cached_top(adapter, options), options["stored"]))
    with tempfile.TemporaryDirectory() as folder:  # the caches of a few items
        few = _few(catalog)
        with quiet():
            vectors = make_item_vectors(encoder, few, adapter, {**encoding, "root": Path(folder)}, **options)
        vectors.to(choose_device(plan.train.device))
        inputs_mb = vectors.inputs.nbytes / MB * len(catalog) / len(few) if isinstance(vectors, EncodedItems) else 0.0
        yield estimate_end2end(plan, vectors, sampler, inputs_mb=min(inputs_mb, options.get("inputs_mb", 0)))


def _cache(cache: StatesCache) -> Estimate:
    found = cache.estimate()
    return Estimate(
        "caching the encoder's states",
        seconds=found.seconds,
        forward_passes=found.missing,
        disk_mb=found.bytes / MB,
        free_mb=found.free / MB,
    )


def _few(catalog: Catalog) -> Catalog:
    rows = np.unique(np.linspace(0, len(catalog) - 1, min(_ITEMS, len(catalog))).astype(np.int64))
    return catalog.select(rows)
