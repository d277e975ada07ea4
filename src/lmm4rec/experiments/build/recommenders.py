"""Recommenders of plans: the model, its training batches and its objective."""

from __future__ import annotations

import logging
from typing import cast

import torch

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Features
from lmm4rec.data.splits import Split
from lmm4rec.experiments.build.end2end import make_live
from lmm4rec.experiments.build.features import RunFeatures
from lmm4rec.experiments.plan import Plan
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.item_regression import require_memory
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import RankingSampler, sampler_of


def make_recommender(plan: Plan, split: Split, features: Features) -> Recommender:
    """The plan's model on the split's training part, its initial weights drawn with the training seed."""
    generator = torch.Generator().manual_seed(plan.train.seed)
    component = plan.recommender.component
    arguments = plan.recommender.arguments(component)
    if split.train.weights is not None and not component.uses_weights:
        logging.getLogger(__name__).info(
            "%s counts all interactions the same: the weights of the data are not used", plan.recommender.label
        )
    return cast(Recommender, component(make_graph(split), features, generator, **arguments))


def check_memory(plan: Plan, items: int) -> None:
    """Refuse a model whose items × items matrix exceeds its `memory_gb`, before anything is encoded.

    Raises:
        ConfigError: it names the sizes and the model to take instead.
    """
    if plan.recommender.component.dense_items:
        require_memory(plan.recommender.label, items, plan.recommender.table["memory_gb"])


def require_gradient(plan: Plan) -> None:
    """Refuse a model without a loss where an encoder is to be trained with it.

    Raises:
        ConfigError: it names the key to change.
    """
    component = plan.recommender.component
    if not component.is_trained or component.is_solved:
        raise ConfigError(
            f'{plan.recommender.label} has no gradient, so no encoder can be trained with it: take train = "frozen"'
        )


def make_graph(split: Split) -> InteractionGraph:
    """The graph of the training part."""
    users, items = (torch.from_numpy(column).long() for column in (split.train.users, split.train.items))
    weights = None if split.train.weights is None else torch.from_numpy(split.train.weights)
    return InteractionGraph(users, items, split.dataset.n_users, split.dataset.n_items, weights)


def make_sampler(plan: Plan, split: Split) -> RankingSampler:
    """The training part's batches, of the kind that the plan's model is trained on."""
    users, items = torch.from_numpy(split.train.users), torch.from_numpy(split.train.items)
    sampler = sampler_of(plan.recommender.component)
    return sampler(users, items, split.dataset.n_items, **plan.train.arguments(sampler))


def make_objective(plan: Plan, split: Split, features: RunFeatures, recommender: Recommender) -> RankingObjective:
    """The recommender on its features, frozen or of an encoder in training.

    Raises:
        ConfigError: an encoder is to be trained with a model that has no loss.
    """
    if features.encoder is None:
        return RankingObjective(recommender, Frozen(features.features))
    require_gradient(plan)
    live, schedule = make_live(features.encoder, split.dataset.catalog, features.features, plan.features)
    return RankingObjective(recommender, live, batches=len(make_sampler(plan, split)), encoder_schedule=schedule)
