"""Checks of a plan on its data: all that would stop a run, before anything is encoded or trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from lmm4rec.core.device import choose_device
from lmm4rec.core.errors import ConfigError, DataError, LMM4RecError, did_you_mean, optional
from lmm4rec.core.registry import ENCODERS, hyper_parameters
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.splits import Split
from lmm4rec.encoders.base import FUSED, is_encoder
from lmm4rec.experiments.build.encoders import make_encoder
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.build.recommenders import check_memory, require_gradient, require_negatives
from lmm4rec.experiments.build.sharding import require_shardable, shards_tables
from lmm4rec.experiments.build.warm_start import earlier_weights
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.trackers import require_tracker
from lmm4rec.experiments.train import require_held_out
from lmm4rec.features.ablation import altered
from lmm4rec.features.store import FeatureStore
from lmm4rec.nn.text import render


def require_stores(*plans: Plan) -> None:
    """Check the remote feature store, where there is one and a plan encodes, before any data is read.

    Raises:
        StorageError: it cannot be written or read.
    """
    if any(plan.encoder and not plan.encoder.is_precomputed for plan in plans):
        FeatureStore().check()


def require_runnable(plan: Plan, split: Split) -> None:
    """Raise the first of the `problems`, an LMM4RecError."""
    for problem in problems(plan, split):
        raise problem


def problems(plan: Plan, split: Split) -> Iterator[LMM4RecError]:
    """What would stop a run of the plan on this split."""
    checks: list[Callable[[], object]] = [
        plan.recommender.component.require_packages,
        partial(plan.recommender.component.check_parameters, plan.recommender.table),
        partial(require_held_out, plan, split, "valid"),
        partial(require_held_out, plan, split, "test"),
        partial(require_shardable, plan),
        lambda: check_memory(plan, split, sharded=shards_tables(plan, split)),
        partial(require_negatives, plan, split),
        partial(choose_device, plan.train.device),
        partial(_require_fields, plan, split),
    ]
    if plan.recommender.component.sequential:
        checks.append(partial(_require_sequences, split))
    if plan.train.start_from and plan.recommender.component.is_trained:
        checks.append(partial(earlier_weights, Path(plan.train.start_from), plan))
    if plan.train.table.get("tensorboard"):
        checks.append(partial(optional, "tensorboard", extra="tensorboard", purpose="train.tensorboard = true"))
    checks += [partial(require_tracker, name) for name in plan.train.table.get("trackers", ())]
    if plan.encoder is not None and not plan.encoder.is_precomputed:
        checks.append(partial(choose_device, plan.features.device))
        columns = dict.fromkeys(split.dataset.catalog.fields.columns, "")
        checks += [partial(render, template, columns) for template in _templates(plan.encoder.table) if columns]
        if plan.features.train == "end2end":
            checks.append(partial(require_gradient, plan))
    for check in checks:
        try:
            check()
        except LMM4RecError as error:
            yield error


def require_features(plan: Plan, catalog: Catalog) -> None:
    """Load the plan's encoder or its feature files, as a run does after `require_runnable`.

    Raises:
        LMM4RecError: a file is missing or belongs to something else, the catalog's texts share no word, ...
    """
    if plan.encoder is None:
        return
    if plan.encoder.is_precomputed:
        load_features(plan, catalog)
        return
    encoder = make_encoder(plan.encoder.table, catalog)
    encoder.learn_catalog(catalog[:])
    encoder.with_modalities(plan.features.modalities)
    names = plan.features.modalities or encoder.modalities
    altered(dict.fromkeys(names, torch.zeros(1, 1)), "train", **plan.features.arguments(altered))


def _require_sequences(split: Split) -> None:
    """Raise DataError where no user has two training interactions, of which a model of sequences could learn."""
    if split.train.user_counts(split.dataset.n_users).max(initial=0) < 2:
        raise DataError(
            "no user has a sequence of two items in the training part ('leave_last_out' leaves two to users of four "
            "interactions and more): hold out less, or take a recommender that reads no sequences"
        )


def _require_fields(plan: Plan, split: Split) -> None:
    """Raise ConfigError where the catalog lacks a field of evaluate.slice_by."""
    fields = split.dataset.catalog.fields.columns
    for name in plan.evaluate.table["slice_by"]:
        if name not in fields:
            raise ConfigError(
                f"evaluate.slice_by: the catalog has no field '{name}'.{did_you_mean(name, fields)} Its fields: "
                f"{', '.join(fields) or 'none'}"
            )


def _templates(table: Mapping[str, Any]) -> Iterator[str]:
    """The text templates of an [encoder] table that are read, those of encoders inside it included."""
    outputs = str(table.get("outputs", "text"))
    if isinstance(table.get("text"), str) and ("text" in outputs or FUSED in outputs):
        yield table["text"]
    for key, parameter in hyper_parameters(ENCODERS.get(table["name"])).items():
        if is_encoder(parameter.annotation) and key != "image" and isinstance(table.get(key), Mapping):
            yield from _templates(table[key])
