"""Sharding of a plan's tables over the processes that train it."""

from __future__ import annotations

import logging
import os

import torch
from torch import Tensor

from lmm4rec.core.device import choose_device, machine_memory_gb
from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Features
from lmm4rec.data.splits import Split
from lmm4rec.distributed import process_group, sharding
from lmm4rec.experiments.build.recommenders import build_recommender, tables_gb
from lmm4rec.experiments.plan import Plan
from lmm4rec.nn.tables import ShardedTable
from lmm4rec.recommenders.base import Recommender

AUTO_SHARE = 0.25  # of the machine's memory, from which on "auto" shards tables


def require_shardable(plan: Plan) -> None:
    """Refuse shards of a model that has none.

    Raises:
        ConfigError: it names the key to change.
    """
    component = plan.recommender.component
    if plan.train.shard == "rows" and not component.shards_tables:
        raise ConfigError(
            f'train.shard = "rows", but {plan.recommender.label} reads its tables or graphs in a way that cannot be '
            'sharded: take shard = "no"'
        )


def shares_training(plan: Plan, processes: int) -> bool:
    """Whether several processes can train the plan together; a note where its model needs only one.

    Raises:
        ConfigError: they cannot be started (`require_startable`).
    """
    require_startable(processes, plan.train.device)
    if not plan.recommender.is_trained or plan.recommender.component.is_solved:
        logging.getLogger(__name__).info(
            "note: %s is computed by one process: --processes %d is of no effect",
            plan.recommender.label, processes,
        )  # fmt: skip
        return False
    return True


def require_startable(processes: int, device: str) -> None:
    """Refuse several processes that cannot be started on this machine.

    Raises:
        ConfigError: a program has started several processes already, or there are more than GPUs.
    """
    if (started := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise ConfigError(
            f"WORLD_SIZE is {started}: a program such as torchrun has started the processes already. Leave out "
            "--processes"
        )
    if choose_device(device).type == "cuda" and processes > torch.cuda.device_count():
        raise ConfigError(
            f"--processes {processes} is more than the {torch.cuda.device_count()} GPUs of this machine: each process "
            'has one. Take fewer, or device = "cpu"'
        )


def shards_tables(plan: Plan, split: Split) -> bool:
    """Whether the processes that train the plan share its tables by rows.

    "auto" does where the tables of all processes on this machine, with Adam's two averages, would take more than
    `AUTO_SHARE` of its memory.
    """
    if process_group.world_size() == 1 or not plan.recommender.component.shards_tables:
        return False
    if plan.train.shard != "auto":
        return plan.train.shard == "rows"
    tables, has = process_group.local_size() * tables_gb(plan, split), machine_memory_gb()
    if is_active := tables > AUTO_SHARE * has:
        logging.getLogger(__name__).info(
            "the tables of %d processes would take %.1f GB of %.1f GB: they are sharded by rows",
            process_group.local_size(), tables, has,
        )  # fmt: skip
    return is_active


def unsharded(plan: Plan, split: Split, features: Features, recommender: Recommender) -> Recommender:
    """The trained recommender with whole tables, in the first process; the others get theirs back as it is."""
    if not sharding.is_sharded():
        return recommender
    process_group.forget_common()
    tables = {name: one for name, one in recommender.named_parameters() if isinstance(one, ShardedTable)}
    state: dict[str, Tensor | None] = {
        name: process_group.gather_at_first(tensor, tables[name].bounds) if name in tables else tensor
        for name, tensor in recommender.state_dict().items()
    }
    if not process_group.is_first():
        return recommender
    with process_group.single_process():
        whole = build_recommender(plan, split, features)
    whole.load_state_dict(state)
    return whole
