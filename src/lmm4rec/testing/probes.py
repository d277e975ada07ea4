"""Helpers of the contracts of recommenders: reading scores, vectors and gradients, and changing weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lmm4rec.core.types import Batch, Embeddings, Features, Scorer
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender
from lmm4rec.testing.contracts import expect
from lmm4rec.training.objective import RankingBatch
from lmm4rec.training.sampler import sampler_of


def generator(seed: int = 0) -> torch.Generator:
    """A generator of random numbers from a seed."""
    return torch.Generator().manual_seed(seed)


def all_scores(scorer: Scorer) -> Float[Tensor, "users items"]:
    """The scores of all items for all users."""
    with torch.no_grad():
        return scorer.scores(torch.arange(scorer.n_users))


def item_vectors(recommender: Recommender, features: Features) -> Float[Tensor, "items dim"]:
    """The item matrix of a recommender that ends in two matrices."""
    scorer = recommender.embed(features)
    expect(isinstance(scorer, Embeddings), f"`embed` returns {type(scorer).__name__}, expected Embeddings")
    assert isinstance(scorer, Embeddings)
    return scorer.items


def image_weights(recommender: Recommender) -> list[nn.Parameter]:
    """The weights of images alone: "image" is a part of their name, as in a ParameterDict by modality.

    Without tables of users, and without numbered layers, which work on what images and ids are joined to.
    """
    found = []
    for name, weight in recommender.named_parameters():
        parts = name.split(".")
        numbered = any(part.isdigit() for part in parts)
        if "image" in parts and not numbered and len(weight) != recommender.graph.n_users:
            found.append(weight)
    return found


def copy_weights(source: Recommender, target: Recommender, order: Tensor, graph: InteractionGraph) -> None:
    """Give the target the source's weights, item rows reordered."""
    nodes = torch.cat([torch.arange(graph.n_users), graph.n_users + order])
    with torch.no_grad():
        for mine, theirs in zip(target.parameters(), source.parameters(), strict=True):
            rows = {graph.n_items: order, graph.n_users + graph.n_items: nodes}.get(len(theirs))
            mine.copy_(theirs if rows is None else theirs[rows])


def gradient(x: Tensor) -> Tensor:
    """The gradient that a tensor has received; zeros where it has received none."""
    return torch.zeros_like(x) if x.grad is None else x.grad


def total(losses: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """The sum of the named losses."""
    return torch.stack(list(losses.values())).sum()


def move_weights(recommender: Recommender) -> None:
    """Move all weights off their first values, in which offsets are 0."""
    with torch.no_grad():
        for parameter in recommender.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator()), alpha=0.1)


def sampled_batch(component: type[Recommender], graph: InteractionGraph, *, batch_size: int = 1024) -> RankingBatch:
    """The first batch of a recommender's sampler."""
    sampler = sampler_of(component)(graph.users, graph.items, graph.n_items, batch_size=batch_size)
    batches: Iterator[RankingBatch] = sampler.epoch(generator())
    return next(batches)


def triples_of(item: int, graph: InteractionGraph) -> Batch:
    """The triples of all users of one item."""
    users = graph.users[graph.items == item]
    positives = torch.full_like(users, item)
    return Batch(users, positives, (positives[:, None] + 10) % graph.n_items)
