"""Estimate of training a recommender and of validating it, by the trainer itself on a few batches."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch

from lmm4rec.core.progress import quiet
from lmm4rec.core.types import Features
from lmm4rec.data.findings import counted
from lmm4rec.data.splits import Split
from lmm4rec.experiments.build.recommenders import make_recommender, make_sampler, note_of_small_batches
from lmm4rec.experiments.estimate.estimate import MB, Estimate, parameter_counts, seconds_of, weights_bytes
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.train import measure
from lmm4rec.features.source import Frozen
from lmm4rec.nn.item_regression import dense_bytes
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.objective import RankingBatch, RankingObjective
from lmm4rec.training.sampler import RankingSampler
from lmm4rec.training.trainer import Trainer

_FEW, _MORE = 2, 6  # batches; the difference is free of what is done once in an epoch


def estimate_training(plan: Plan, split: Split, features: Features) -> Estimate:
    """The estimate of all epochs and validations of the plan's recommender on features that do not change."""
    split = split.without_test()
    recommender = make_recommender(plan, split, features)
    validation_s = _validation_seconds(plan, split, recommender, features) if split.holds_out("valid") else 0.0
    parameters, trainable = parameter_counts(recommender)
    held = weights_bytes(recommender, training=True) + sum(rows.nbytes for rows in features.values())
    held += 2 * dense_bytes(split.dataset.n_items) if recommender.dense_items else 0  # at most: `inverse_of_gram`
    seconds, details = validation_s, ""
    if recommender.is_trained:
        sampler, train = make_sampler(plan, split), plan.train
        epoch_s = _epoch_seconds(recommender, features, sampler, train.device)
        seconds = train.epochs * (epoch_s + validation_s / train.evaluate_every)
        steps = "one sweep" if recommender.is_solved else f"{len(sampler):,} batches"
        details = f"{counted(train.epochs, 'epoch')} of {steps}"
        if note := note_of_small_batches(plan, split, sampler):
            details += f"; {note}"
        if recommender.is_compiled:
            details += "; a first one that compiles takes some seconds more"
    return Estimate(
        f"training {plan.recommender.label}" if recommender.is_trained else f"fitting {plan.recommender.label}",
        seconds=seconds,
        memory_mb=held / MB,
        parameters=parameters,
        trainable=trainable,
        details=details,
    )


def _validation_seconds(plan: Plan, split: Split, recommender: Recommender, features: Features) -> float:
    def validate() -> None:
        with torch.inference_mode():
            measure(plan.evaluate, recommender.embed(features), split, "valid")

    return seconds_of(validate, torch.device("cpu"))


def _epoch_seconds(recommender: Recommender, features: Features, sampler: RankingSampler, device: str) -> float:
    """The seconds of an epoch: two short ones separate what each batch takes from what is done once."""
    objective = RankingObjective(recommender, Frozen(features))
    trainer = Trainer(epochs=1, metric="none", device=device, learning_rate=1e-6)

    def seconds(count: int) -> float:
        batches = _FirstBatches(sampler, count)
        return seconds_of(lambda: trainer.fit(objective, batches, lambda: {"none": 0.0}), trainer.device)

    with quiet():
        few, more = (min(count, len(sampler)) for count in (_FEW, _MORE))
        first_s = seconds(few)
        if few == more:
            return first_s * len(sampler) / few
        batch_s = max((seconds(more) - first_s) / (more - few), 0.0)
    return first_s + (len(sampler) - few) * batch_s


@dataclass(frozen=True)
class _FirstBatches:
    """The first batches of a sampler's epoch."""

    sampler: RankingSampler
    count: int

    def __len__(self) -> int:
        return self.count

    def epoch(self, generator: torch.Generator) -> Iterator[RankingBatch]:
        batches: Iterator[RankingBatch] = self.sampler.epoch(generator)
        yield from islice(batches, self.count)
