"""Estimate of end-to-end training: the encoder, or what trains of it or beside it, apart from the recommender."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from lmm4rec.encoding.runner import autocast
from lmm4rec.encoding.sizing import Precision, kept_bytes, resolve_precision
from lmm4rec.experiments.estimate.estimate import MB, Estimate, parameter_counts, seconds_of, weights_bytes
from lmm4rec.experiments.plan import Plan
from lmm4rec.features.item_vectors import ItemVectors
from lmm4rec.features.live import Live
from lmm4rec.training.objective import RankingBatch
from lmm4rec.training.sampler import RankingSampler

_ITEMS = 8  # on which speed is measured
_BATCHES = 64  # in which distinct items are counted


def estimate_end2end(plan: Plan, vectors: ItemVectors, sampler: RankingSampler, *, inputs_mb: float = 0.0) -> Estimate:
    """The estimate of training `vectors` with the plan's options; they may hold only a few items of the catalog.

    `inputs_mb` is the memory of the items' prepared inputs.
    """
    live = plan.features.end2end_arguments(Live)
    epochs = max(plan.train.epochs - live["warm_start"], 0)
    train_s, forward_s, item_bytes = _item_cost(vectors, live["precision"])
    each = items_per_epoch(sampler, live)
    forward = forward_passes(sampler.n_items, plan.train.epochs, plan.train.evaluate_every, live)
    rows = 3 * 4 * sampler.n_items * sum(vectors.dims.values())  # the table of vectors, its gradient, the best so far
    a_pass = min(each / _passes_per_epoch(sampler, live) * item_bytes / MB, live["memory_mb"])
    parameters, trainable = parameter_counts(vectors)
    return Estimate(
        f"training {'the encoder' if vectors.encodes else 'the side network'} end to end",
        seconds=epochs * each * train_s + forward * forward_s,
        memory_mb=(weights_bytes(vectors, training=True) + rows) / MB + a_pass + inputs_mb,
        passes=epochs * each,
        forward_passes=forward,
        items_per_s=1 / train_s,
        parameters=parameters,
        trainable=trainable,
        details=f"{each:,} items in each of {epochs:,} epochs",
    )


def items_per_epoch(sampler: RankingSampler, live: Mapping[str, Any]) -> int:
    """The number of items that pass with gradient in an epoch, by Live's `every` and `max_items`; from some batches."""
    every = _every(sampler, live)
    counts, met = [], set[int]()
    batches: Iterator[RankingBatch] = sampler.epoch(torch.Generator().manual_seed(0))
    for number, batch in enumerate(islice(batches, max(_BATCHES, every)), start=1):
        met |= set(torch.unique(batch.items).tolist())
        if number % every == 0 or number == len(sampler):
            counts.append(min(len(met), live["max_items"] or len(met)))
            met = set()
    return round(sum(counts) / len(counts) * _passes_per_epoch(sampler, live))


def forward_passes(n_items: int, epochs: int, evaluate_every: int, live: Mapping[str, Any]) -> int:
    """The number of items that pass without gradient in a run: refreshes, before validations, and at the end."""
    warm, end, refresh = live["warm_start"], epochs + 1, live["refresh_every"]
    refreshed = range(warm + refresh, end, refresh) if refresh else ()
    validated = (*range(evaluate_every, end, evaluate_every), epochs) if live["validate_on"] == "fresh" else ()
    # after an epoch one encoding serves both; while the encoder waits, its vectors stay as they are
    encoded = {epoch for epoch in (*refreshed, *validated) if epoch > warm}
    return n_items * (len(encoded) + 1)


def _item_cost(vectors: ItemVectors, precision: Precision) -> tuple[float, float, int]:
    """Seconds of an item forward and backward, seconds forward alone, and the bytes kept for the backward pass.

    Modes, gradients and generators are left as they were.
    """
    device = next(vectors.parameters()).device
    rows = torch.linspace(0, vectors.n_items - 1, min(_ITEMS, vectors.n_items), device=device).long()
    seeded = torch.random.fork_rng([device] if device.type == "cuda" else [])
    with seeded, autocast(device, resolve_precision(precision, vectors, device)):
        forward_s = seconds_of(lambda: _forward(vectors, rows), device)
        train_s = seconds_of(lambda: _backward(vectors, rows), device)
        kept = kept_bytes(vectors, lambda: vectors(rows))
    return train_s / len(rows), forward_s / len(rows), kept // len(rows)


def _every(sampler: RankingSampler, live: Mapping[str, Any]) -> int:
    return len(sampler) if live["every"] == "epoch" else min(live["every"], len(sampler))


def _passes_per_epoch(sampler: RankingSampler, live: Mapping[str, Any]) -> int:
    return -(-len(sampler) // _every(sampler, live))


def _forward(vectors: ItemVectors, rows: Tensor) -> None:
    with torch.no_grad():
        vectors(rows)


def _backward(vectors: ItemVectors, rows: Tensor) -> None:
    trained = [weight for weight in vectors.parameters() if weight.requires_grad]
    total = torch.stack([output.sum() for output in vectors(rows).values()]).sum()
    torch.autograd.grad(total, trained, allow_unused=True)
