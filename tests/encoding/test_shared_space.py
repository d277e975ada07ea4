"""The learned temperature: it trains at its bound, and no step leaves it beyond."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.encoders.color import Color
from lmm4rec.encoding.prepared_items import PreparedItems
from lmm4rec.encoding.runner import EncoderRunner
from lmm4rec.encoding.shared_space import shared_spaces
from lmm4rec.features.item_vectors import EncodedItems
from lmm4rec.features.live import Live
from lmm4rec.training.contrastive import Contrastive
from lmm4rec.training.finetuning import fit_pairs
from lmm4rec.training.lr_schedule import LearningRateSchedule
from lmm4rec.training.objective import Objective, RankingObjective
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer
from toys import Toy, toy_items
from worlds import camps

PUBLISHED = 4.6052  # of CLIP's released weights: rounded up, so beyond log(100)
BOUND = math.log(100) + 1e-6


def published() -> Toy:
    encoder = Toy()
    with torch.no_grad():
        encoder.logit_scale.fill_(PUBLISHED)
    return encoder


def end_to_end(encoder: Toy, **options: Any) -> tuple[RankingObjective, TripleSampler]:
    graph, _ = camps()
    vectors = EncodedItems(encoder, toy_items(graph.n_items))
    with torch.no_grad():
        features = vectors.eval()(torch.arange(graph.n_items))
    sampler = TripleSampler(graph.users, graph.items, graph.n_items, batch_size=64)
    source = Live(vectors, features, alignment_weight=1.0, precision="float32", **options)
    recommender = RECOMMENDERS.get("vbpr")(graph, features, torch.Generator().manual_seed(0))
    schedule = LearningRateSchedule(learning_rate=0.05)
    return RankingObjective(recommender, source, batches=len(sampler), encoder_schedule=schedule), sampler


def finetuning(encoder: Toy) -> Contrastive:
    pairs = PreparedItems(encoder, toy_items(24), memory_mb=64)
    return Contrastive(encoder, pairs, EncoderRunner(encoder, precision="float32"), weights={"contrastive": 1.0})


def gradient_of_scale(objective: Objective, encoder: Toy, batch: Any) -> Tensor:
    objective.begin_epoch(torch.Generator())
    with torch.no_grad():
        encoder.logit_scale.fill_(PUBLISHED)
    terms = objective.losses(batch, torch.Generator())
    (gradient,) = torch.autograd.grad(torch.stack(list(terms.values())).sum(), [encoder.logit_scale])
    return gradient


@pytest.mark.parametrize("paradigm", ["end2end", "finetuned"])
def test_the_published_temperature_has_a_gradient_and_is_bounded_after_a_step(paradigm: str) -> None:
    encoder = published()
    if paradigm == "end2end":
        objective, sampler = end_to_end(encoder)
        gradient = gradient_of_scale(objective, encoder, next(iter(sampler.epoch(torch.Generator()))))
    else:
        objective = finetuning(encoder)
        gradient = gradient_of_scale(objective, encoder, torch.arange(24))
    assert gradient.abs() > 1e-3
    with torch.no_grad():
        encoder.logit_scale.add_(1.0)
    objective.after_step()
    assert encoder.logit_scale.item() == pytest.approx(math.log(100))


def test_alignment_end_to_end_trains_the_temperature_from_its_bound() -> None:
    encoder = published()
    objective, sampler = end_to_end(encoder)
    Trainer(epochs=2, metric="loss", device="cpu").fit(objective, sampler, dict)
    assert encoder.logit_scale.item() < 4.5  # random vectors are too far apart for 100


def test_no_saved_temperature_is_beyond_its_bound() -> None:
    """Upwards the steps of this rate are far longer than the bound's distance."""
    encoder = published()
    encoder.logit_scale.register_hook(lambda gradient: -gradient.abs())
    fit_pairs(
        encoder, toy_items(12), None, epochs=1, batch_size=8, learning_rate=0.5, precision="float32", device="cpu"
    )
    assert 4.6 < encoder.logit_scale.item() <= BOUND


def test_the_encoder_keeps_its_temperature_until_it_trains() -> None:
    for options, expected in (({"warm_start": 2}, PUBLISHED), ({}, math.log(100))):
        encoder = published()
        objective, sampler = end_to_end(encoder, **options)
        objective.begin_epoch(torch.Generator())
        objective.losses(next(iter(sampler.epoch(torch.Generator()))), torch.Generator())
        objective.after_step()
        assert encoder.logit_scale.item() == pytest.approx(expected, abs=1e-6)


def test_encoders_without_a_shared_space_have_none() -> None:
    assert shared_spaces(Color()) == ()
    without = Toy()
    del without.model.logit_scale
    assert shared_spaces(without) == ()
