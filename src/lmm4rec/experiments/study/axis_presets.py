"""Presets of axis values, listed by name or number: `seed = [0, 1, 2]`, `modalities = ["both", "shuffled"]`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from lmm4rec.core.errors import ConfigError, did_you_mean

Overrides = Mapping[str, Any]

SEED = "seed"
HIDDEN = re.compile(r"hide_(?P<modality>\w+)_(?P<at>always|train|test)")

_SIDES = ("image", "text")


def _ablated(how: str, *modalities: str) -> dict[str, Any]:
    return {f"features.ablate.{modality}": how for modality in modalities}


PRESETS: Mapping[str, Mapping[str, Overrides]] = {
    "paradigm": {name: {"features.train": name} for name in ("frozen", "finetuned", "end2end")},
    "modalities": {
        "both": {},
        **{side: {"features.modalities": [side]} for side in _SIDES},
        "shuffled": _ablated("shuffle", *_SIDES),
        **{f"{side} shuffled": _ablated("shuffle", side) for side in _SIDES},
        "noise": _ablated("noise", *_SIDES),
        **{f"{side} noise": _ablated("noise", side) for side in _SIDES},
    },
    "protocol": {name: {"evaluate.protocol": name} for name in ("strict", "mmrec")},
}
"""The overrides by axis and value. "both" leaves the features as they are."""


def preset_values(axis: str, names: Sequence[Any]) -> dict[str, Overrides]:
    """The overrides of the values that an axis lists by name or number alone.

    - `seed`: whole numbers, for `train.seed`;
    - `recommender`: names of models, with their defaults;
    - `paradigm`, `modalities`, `protocol`: those of `PRESETS`;
    - `hide_image_test`, `hide_text_always` and the like (modality, then always, train or test): shares from 0 to 0.99.

    Raises:
        ConfigError: the axis has no presets, or a value is none of them.
    """
    if not names:
        raise ConfigError(f"axes.{axis} lists no value")
    return {str(name): _preset(axis, name) for name in names}


def _preset(axis: str, name: Any) -> Overrides:
    if axis == SEED:
        _require(isinstance(name, int) and not isinstance(name, bool) and name >= 0, axis, name, "whole numbers from 0")
        return {"train.seed": name}
    if axis == "recommender":
        _require(isinstance(name, str), axis, name, "names of recommenders")
        return {"recommender.name": name}
    if hidden := HIDDEN.fullmatch(axis):
        _require(isinstance(name, int | float) and 0 <= name < 1, axis, name, "shares from 0 to below 1")
        share, modality, at = float(name), hidden["modality"], hidden["at"]
        return {f"features.hide.{modality}": share, "features.hide_at": at} if share else {}
    if axis not in PRESETS:
        known = ", ".join([SEED, "recommender", *PRESETS, "hide_image_test, ..."])
        raise ConfigError(
            f"axes.{axis} lists names, which only these axes can: {known}. Write a table [axes.{axis}] that says what "
            'each value sets, such as CLIP = { "encoder.name" = "clip" }'
        )
    values = PRESETS[axis]
    if name not in values:
        raise ConfigError(
            f"axes.{axis} has no preset {name!r}.{did_you_mean(str(name), values)} There are: {', '.join(values)}"
        )
    return values[name]


def _require(fits: bool, axis: str, name: Any, expected: str) -> None:
    if not fits:
        raise ConfigError(f"axes.{axis} lists {expected}; got {name!r}")
