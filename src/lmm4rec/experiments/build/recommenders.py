"""Recommenders of plans: the model, its training batches and its objective."""

from __future__ import annotations

import logging
import math
from typing import cast

import torch

from lmm4rec.core.device import machine_memory_gb
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Features
from lmm4rec.data.splits import Split
from lmm4rec.distributed import process_group
from lmm4rec.experiments.build.end2end import make_live
from lmm4rec.experiments.build.features import RunFeatures
from lmm4rec.experiments.plan import Plan
from lmm4rec.features.source import Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.item_regression import require_memory
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import RankingSampler, TripleSampler, automatic_batch_size, sampler_of
from lmm4rec.training.sequence_sampler import SequenceSampler


def make_recommender(plan: Plan, split: Split, features: Features) -> Recommender:
    """The plan's model on the split's training part, its initial weights drawn with the training seed."""
    component = plan.recommender.component
    if split.train.weights is not None and not component.uses_weights:
        logging.getLogger(__name__).info(
            "%s counts all interactions the same: the weights of the data are not used", plan.recommender.label
        )
    return build_recommender(plan, split, features)


def build_recommender(plan: Plan, split: Split, features: Features) -> Recommender:
    """As `make_recommender`, without its notes."""
    component, generator = plan.recommender.component, torch.Generator().manual_seed(plan.train.seed)
    graph = make_graph(split, in_order=component.sequential)
    return cast(Recommender, component(graph, features, generator, **plan.recommender.arguments(component)))


def tables_gb(plan: Plan, split: Split) -> float:
    """The GB of the vectors of all users and items: at least, for a trained model with Adam's two averages."""
    copies = 3 if plan.recommender.is_trained else 1
    return 4e-9 * copies * plan.recommender.table.get("dim", 0) * (split.dataset.n_users + split.dataset.n_items)


def check_memory(plan: Plan, split: Split, *, sharded: bool = False) -> None:
    """Refuse a model that cannot fit the memory, before anything is encoded.

    That is an items × items matrix larger than the model's `memory_gb`, or vectors that alone exceed the machine's:
    those of its processes, each of which has all of them, or its part where they are `sharded`.

    Raises:
        ConfigError: it names the sizes, and the model or the keys to change.
    """
    users, items = split.dataset.n_users, split.dataset.n_items
    model, component = plan.recommender, plan.recommender.component
    if component.dense_items:
        require_memory(model.label, items, model.table["memory_gb"])
    dim, size = model.table.get("dim", 0), plan.train.table.get("batch_size")
    if size == "auto" and sampler_of(component) is TripleSampler:
        size = _automatic_size(plan, split)
    batch = min(size, len(split.train)) if isinstance(size, int) else 0
    processes = process_group.local_size() / (process_group.world_size() if sharded else 1)
    tables, rows = processes * tables_gb(plan, split), 4e-9 * dim * 3 * batch * component.is_trained
    has, width = machine_memory_gb(), dim + model.table.get("content_dim", 0)
    if plan.encoder is not None and 16e-9 * width**2 > has:  # two matrices of float64 are solved for
        raise ConfigError(
            f"the maps that give new items their vectors take {16e-9 * width**2:,.1f} GB for vectors of {width:,} "
            f"numbers, and this machine has {has:,.1f} GB: lower recommender.dim or recommender.content_dim"
        )
    if tables + rows > has:
        raise ConfigError(
            f"recommender.dim = {dim:,} takes at least {tables:,.1f} GB for the vectors of {users:,} users and "
            f"{items:,} items and {rows:,.1f} GB for a batch of {batch:,} triples, and this machine has {has:,.1f} GB: "
            f"lower recommender.dim or train.batch_size{_or_fewer_copies(processes)}"
        )


def _or_fewer_copies(processes: float) -> str:
    return f', or take shard = "rows": each of {processes:.0f} processes has a copy' if processes > 1 else ""


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


def make_graph(split: Split, *, in_order: bool = False) -> InteractionGraph:
    """The graph of the training part; `in_order` with the users' sequences."""
    train = split.train.by_time() if in_order else split.train
    users, items = (torch.from_numpy(column).long() for column in (train.users, train.items))
    weights = None if train.weights is None else torch.from_numpy(train.weights)
    return InteractionGraph(users, items, split.dataset.n_users, split.dataset.n_items, weights, in_order=in_order)


def make_sampler(plan: Plan, split: Split) -> RankingSampler:
    """The training part's batches, of the kind that the plan's model is trained on."""
    sampler = sampler_of(plan.recommender.component)
    arguments = plan.train.arguments(sampler)
    if sampler is SequenceSampler:
        ordered = split.train.by_time()
        users, items = torch.from_numpy(ordered.users), torch.from_numpy(ordered.items)
        return SequenceSampler(users, items, split.dataset.n_items, plan.recommender.table["length"], **arguments)
    users, items = torch.from_numpy(split.train.users), torch.from_numpy(split.train.items)
    if sampler is TripleSampler and arguments["batch_size"] == "auto":
        arguments["batch_size"] = _automatic_size(plan, split)
    if sampler is TripleSampler and plan.train.table["hard_negatives"]:
        signals = (torch.from_numpy(split.negatives.users), torch.from_numpy(split.negatives.items))
        return TripleSampler(users, items, split.dataset.n_items, signals, **arguments)
    return sampler(users, items, split.dataset.n_items, **arguments)


def _automatic_size(plan: Plan, split: Split) -> int:
    return automatic_batch_size(len(split.train), reads_whole_graph=_reads_whole_graph(plan))


def _reads_whole_graph(plan: Plan) -> bool:
    """Whether a step's cost is that of the graph; an encoder in training costs by the items of the batch."""
    return not plan.recommender.component.splits_batches and plan.features.train != "end2end"


def note_of_small_batches(plan: Plan, split: Split, sampler: RankingSampler) -> str:
    """A sentence where a graph model has at least four times as many batches as with "auto"; else empty."""
    size = _automatic_size(plan, split)
    if not isinstance(sampler, TripleSampler) or not _reads_whole_graph(plan) or 4 * sampler.batch_size > size:
        return ""
    return (
        f'train.batch_size = {sampler.batch_size} makes {len(sampler):,} batches an epoch, "auto" would make '
        f"{math.ceil(len(split.train) / size):,}; each one reads the whole graph, so fewer are faster"
    )


def require_negatives(plan: Plan, split: Split) -> None:
    """Refuse hard negatives where no negative signal may train.

    Raises:
        ConfigError: it names the key and what gives negative signals.
    """
    if plan.recommender.is_trained and plan.train.table.get("hard_negatives") and not len(split.negatives):
        has = len(split.dataset.negatives)
        why = "the data has none" if not has else f"none of the {has:,} of the data can train"
        raise ConfigError(
            f"train.hard_negatives = {plan.train.table['hard_negatives']:g} needs negative signals, and {why}: a "
            "column 'kind' with dislike or skip gives some, or data.rating_at_least, below which ratings are negative"
        )


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
