"""Groups of parameters: those with weight decay and those without, and the learning rate of each layer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import nn

from lmm4rec.core.errors import TrainingError
from lmm4rec.encoders.base import Encoder
from lmm4rec.training.lr_schedule import LearningRateSchedule, ParameterGroup

_UNDECAYED = re.compile(r"position|pos_embed|relative_|(bias|bias_table|tokens?|gates|shares)$")


def decays(name: str, weight: nn.Parameter) -> bool:
    """Whether weight decay applies: not to biases, norms, layer scales, temperatures, positions and learned tokens.

    Weights of one dimension or none never decay. For the others the name decides, also for the biases and gates of side
    networks, which are stacked to matrices.
    """
    return weight.ndim > 1 and not _UNDECAYED.search(name)


def grouped(
    name: str,
    parameters: Iterable[tuple[str, nn.Parameter]],
    schedule: LearningRateSchedule,
    *,
    warm_start: int = 0,
    factors: Mapping[nn.Parameter, float] | None = None,
) -> tuple[ParameterGroup, ...]:
    """The groups, all called `name`, of the parameters that train: by weight decay and by learning rate.

    `factors` are those of the learning rates, where they are not 1.
    """
    found: dict[tuple[float, bool], list[nn.Parameter]] = {}
    for label, weight in parameters:
        if weight.requires_grad:
            decayed = schedule.weight_decay > 0 and decays(label, weight)
            found.setdefault(((factors or {}).get(weight, 1.0), decayed), []).append(weight)
    groups = []
    for (factor, decayed), weights in found.items():
        decay = schedule.weight_decay if decayed else 0.0
        own = replace(schedule, learning_rate=factor * schedule.learning_rate, weight_decay=decay)
        groups.append(ParameterGroup(name, tuple(weights), own, warm_start))
    return tuple(groups)


def layer_factors(encoder: Encoder, layer_decay: float) -> dict[nn.Parameter, float]:
    """The factors of the learning rates below the top: of `depth` blocks, block i has layer_decay ** (depth - i).

    Embeddings, below block 0, have layer_decay ** (depth + 1); norms after the last block, heads and temperatures have
    1 (Clark et al. 2020, arXiv 2003.10555, as in BEiT).

    Raises:
        TrainingError: the encoder does not say which of its parameters are below the first block.
    """
    if layer_decay == 1.0:
        return {}
    towers = encoder.towers()
    if not towers or not encoder.below_blocks:
        raise TrainingError(
            f"layer_decay = {layer_decay}, but {type(encoder).__name__} does not say which of its weights are below "
            "its first block. Set layer_decay = 1.0"
        )
    factors: dict[nn.Parameter, float] = {}
    for tower in towers.values():
        depth = len(tower.blocks)
        for number, block in enumerate(tower.blocks):
            factors |= dict.fromkeys(block.parameters(), layer_decay ** (depth - number))
    for modality, beginnings in encoder.below_blocks.items():
        depth = len(towers.get(modality, next(iter(towers.values()))).blocks)
        for name, weight in encoder.named_parameters():
            if name.removeprefix("model.").startswith(tuple(beginnings)):
                factors[weight] = layer_decay ** (depth + 1)
    return factors
