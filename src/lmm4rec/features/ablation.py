"""Ablations of features, to measure what content contributes: shuffled between items, replaced by noise, hidden."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Annotated, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.core.types import Features, Fraction, Modality, NonNegativeInt

Ablation = Literal["shuffle", "noise"]

Rows = Float[Tensor, "items _dim"]


def altered(
    features: Features,
    part: Literal["train", "test"],
    *,
    ablate: Annotated[Mapping[str, Ablation] | None, Doc("By modality: vectors shuffled, or noise instead.")] = None,
    hide: Annotated[Mapping[str, Fraction] | None, Doc("By modality, the share of vectors that are hidden.")] = None,
    hide_at: Annotated[Literal["always", "train", "test"], Doc("When vectors are hidden.")] = "always",
    alter_seed: Annotated[NonNegativeInt, Doc("Seed of these changes; the same seed changes the same items.")] = 0,
) -> Features:
    """The features for a part of the run; unchanged without `ablate` and `hide`.

    "train" includes validation. A row of zeros is an item that lacks the modality, and stays one.

    Raises:
        ConfigError: the features lack a modality.
    """
    ablate, hide = ablate or {}, hide or {}
    _require({*ablate, *hide}, features)
    changed = {modality: _ablated(x, modality, ablate.get(modality), alter_seed) for modality, x in features.items()}
    if hide_at not in ("always", part):
        return changed
    return {modality: _hidden(x, modality, hide.get(modality, 0.0), alter_seed) for modality, x in changed.items()}


def differs_at_test(hide: Mapping[str, float] | None, hide_at: str) -> bool:
    """Whether the features of the test differ from those of training."""
    return bool(hide) and hide_at != "always"


def _ablated(x: Rows, modality: Modality, how: str | None, seed: int) -> Rows:
    if how is None:
        return x
    having = _having(x)
    generator = _generator(seed, modality, how)
    changed = torch.zeros_like(x)
    if how == "shuffle":
        changed[having] = x[having[_cycle(len(having), generator)]]
        return changed
    mean, spread = x[having].mean(0), x[having].std(0, correction=0)
    changed[having] = mean + spread * torch.randn(len(having), x.shape[1], generator=generator)
    return changed


def _cycle(count: int, generator: torch.Generator) -> Int[Tensor, " count"]:
    """A random permutation of one cycle: of two rows or more, none keeps its place."""
    order = torch.randperm(count, generator=generator)
    successor = torch.empty_like(order)
    successor[order] = order.roll(-1)
    return successor


def _hidden(x: Rows, modality: Modality, share: float, seed: int) -> Rows:
    having = _having(x)
    order = torch.randperm(len(having), generator=_generator(seed, modality, "hide"))
    chosen = having[order[: math.floor(share * len(having) + 0.5)]]
    return x.clone().index_fill_(0, chosen, 0.0) if len(chosen) else x


def _having(x: Rows) -> Int[Tensor, " rows"]:
    """The rows of the items that have the modality."""
    return torch.nonzero(x.abs().amax(1) > 0).flatten()


def _generator(seed: int, *names: str) -> torch.Generator:
    """A generator for each modality and use, so that one more modality changes nothing for the others."""
    return torch.Generator().manual_seed(zlib.crc32(" ".join([str(seed), *names]).encode()))


def _require(named: Iterable[str], features: Features) -> None:
    for modality in sorted(named):
        if modality not in features:
            raise ConfigError(
                f"features.ablate and features.hide name '{modality}', the encoder gives: {', '.join(features)}."
                f"{did_you_mean(modality, features)}"
            )
