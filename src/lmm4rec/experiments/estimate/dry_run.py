"""A run that stops before it starts: what it would take."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lmm4rec.core.device import choose_device
from lmm4rec.core.progress import quiet
from lmm4rec.core.types import Inputs
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.experiments.build.adapters import ADAPTERS, cached_top, make_cache, make_item_vectors
from lmm4rec.experiments.build.workbench import Workbench
from lmm4rec.experiments.conf.spec import Table, load_spec
from lmm4rec.experiments.estimate.end2end import RunEstimate, estimate_training
from lmm4rec.experiments.estimate.finetuning import estimate_tuning
from lmm4rec.experiments.plan import PRECOMPUTED, Plan, make_encoder, make_plan
from lmm4rec.experiments.run import make_recommender, make_sampler
from lmm4rec.features.live import Live
from lmm4rec.features.source import Frozen
from lmm4rec.features.state_cache import CacheEstimate, StatesCache
from lmm4rec.features.whole_encoder import EncodedItems
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.objective import Ranking
from lmm4rec.training.sampler import TripleSampler

_TRIED = 8  # items
_MB = 2**20
_COPIES = 5  # of the recommender's weights, as in `estimate_end2end`


def estimate_run(conf: str | Path | Table, overrides: Table | None = None) -> RunEstimate:
    """What the run of a conf file will take at most; nothing is trained or stored, times are measured on a few items.

    The features of the encoder as it is are taken to be encoded in this run; where they are in the feature store, it
    takes less.

    Raises:
        ConfigError: the run would not begin.
    """
    plan, bench = make_plan(load_spec(conf, overrides)), Workbench()
    split = bench.split(plan)
    catalog, sampler = split.dataset.catalog, make_sampler(plan, split)
    epochs, train = plan.tables["train"]["epochs"], plan.tables.get("features", {}).get("train", "frozen")
    what = f"{plan.recommender} on {plan.encoder}, {train}" if "encoder" in plan.tables else plan.recommender
    blank = RunEstimate(
        what, epochs, encodings=0, looks=0, before=0, encodes=True, items_per_s=0.0, seconds=0.0, parameters=0,
        trainable=0, memory_mb=0.0,
    )  # fmt: skip
    if plan.tables.get("encoder", {"name": PRECOMPUTED})["name"] == PRECOMPUTED:
        with quiet():
            content = bench.content(plan, catalog)
        recommender = make_recommender(plan, split, content.features)
        return _with_recommender(blank, recommender, content.features, sampler)
    encoder = make_encoder(plan.tables["encoder"], catalog)
    encoder.learn_catalog(catalog[:])
    encoder.to(choose_device(plan.tables["features"]["device"]))
    random = torch.Generator().manual_seed(0)
    named = plan.tables["features"]["modalities"] or encoder.dims
    features = {m: torch.randn(len(catalog), encoder.dims[m], generator=random) for m in named}
    estimate = _encoding(blank, encoder, catalog)
    if train == "finetuned":
        tuning = estimate_tuning(encoder, catalog, plan.tables["features"]["finetune"])
        seconds, memory_mb = estimate.seconds + tuning.seconds, max(estimate.memory_mb, tuning.memory_mb)
        estimate = replace(estimate, tuning=tuning.passes, seconds=seconds, memory_mb=memory_mb)
    if train == "end2end":
        estimate = _end2end(estimate, plan, encoder, catalog, sampler)
    return _with_recommender(estimate, make_recommender(plan, split, features), features, sampler)


def _encoding(estimate: RunEstimate, encoder: Encoder, catalog: Catalog) -> RunEstimate:
    """With the encoder's features as they are."""
    items = _some(catalog)[:]
    device = next((weight.device for weight in encoder.parameters()), torch.device("cpu"))

    def encode() -> None:
        prepared = encoder.prepare(items)
        with torch.no_grad():
            encoder(Inputs(*(None if values is None else values.to(device) for values in prepared)))

    encode()  # the first time is slower
    began = time.perf_counter()
    encode()
    each = (time.perf_counter() - began) / len(items)
    weights = list(encoder.parameters())
    return replace(
        estimate,
        before=len(catalog),
        seconds=len(catalog) * each,
        items_per_s=1 / each,
        parameters=sum(weight.numel() for weight in weights),
        memory_mb=sum(weight.nbytes for weight in weights) / _MB,
    )


def _end2end(
    estimate: RunEstimate, plan: Plan, encoder: Encoder, catalog: Catalog, sampler: TripleSampler
) -> RunEstimate:
    """With the training of an encoder or adapter."""
    adapter = plan.tables["features"]["adapter"]
    own = plan.arguments("features.end2end", ADAPTERS[adapter])
    live = plan.arguments("features.end2end", Live)
    encoding = plan.arguments("features", StatesCache)
    cache = _cache(plan, encoder, catalog, own, encoding)
    with tempfile.TemporaryDirectory() as folder:  # the caches of a handful of items
        few, root = _some(catalog), Path(folder)
        with quiet():
            vectors = make_item_vectors(encoder, few, adapter, {**encoding, "root": root}, **own)
        vectors.to(choose_device(plan.tables["train"]["device"]))
        inputs_mb = vectors.inputs.needed_mb * len(catalog) / len(few) if isinstance(vectors, EncodedItems) else 0.0
        training = estimate_training(
            f"{estimate.what} ({adapter})" if adapter != "none" else estimate.what,
            vectors,
            sampler,
            live,
            epochs=estimate.epochs,
            evaluate_every=plan.tables["train"]["evaluate_every"],
            inputs_mb=min(inputs_mb, own.get("inputs_mb", 0)),
        )
    return replace(
        training,
        before=estimate.before + (cache.missing if cache else 0),
        seconds=estimate.seconds + training.seconds + (cache.seconds if cache else 0.0),
        memory_mb=max(estimate.memory_mb, training.memory_mb),
        disk_mb=cache.bytes / _MB if cache else 0.0,
        free_mb=cache.free / _MB if cache else 0.0,
    )


def _cache(
    plan: Plan, encoder: Encoder, catalog: Catalog, own: Mapping[str, Any], encoding: Mapping[str, Any]
) -> CacheEstimate | None:
    """What the cache of an adapter will take; None where it has none."""
    adapter = plan.tables["features"]["adapter"]
    if adapter not in ("last", "side"):
        return None
    return make_cache(encoder, catalog, encoding, cached_top(adapter, own), own["stored"]).estimate()


def _with_recommender(
    estimate: RunEstimate, recommender: Recommender, features: Mapping[str, torch.Tensor], sampler: TripleSampler
) -> RunEstimate:
    """With the recommender's own steps."""
    if not recommender.is_trained:
        return estimate
    objective, generator = Ranking(recommender, Frozen(features)), torch.Generator().manual_seed(0)
    weights = [weight for weight in recommender.parameters() if weight.requires_grad]
    batch = next(iter(sampler.epoch(generator)))
    objective.begin_epoch(generator)

    def step() -> None:
        loss = torch.stack(list(objective.losses(batch, generator).values())).sum()
        torch.autograd.grad(loss, weights, allow_unused=True)

    step()
    began = time.perf_counter()
    step()
    seconds = (time.perf_counter() - began) * len(sampler) * estimate.epochs
    held = sum(weight.nbytes for weight in weights) * _COPIES + sum(rows.nbytes for rows in features.values())
    count = sum(weight.numel() for weight in weights)
    return replace(
        estimate,
        seconds=estimate.seconds + seconds,
        memory_mb=estimate.memory_mb + held / _MB,
        parameters=estimate.parameters + count,
        trainable=estimate.trainable + count,
    )


def _some(catalog: Catalog) -> Catalog:
    rows = np.unique(np.linspace(0, len(catalog) - 1, min(_TRIED, len(catalog))).astype(np.int64))
    return catalog.select(rows)
