"""Search space: for each dotted key the values that are tried."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from lmm4rec.core.errors import ConfigError
from lmm4rec.experiments.conf.spec import Table, load_spec
from lmm4rec.experiments.plan import make_plan

_RANGE = {"low", "high", "log", "step"}
_JUDGES = ("data", "split", "evaluate", "train.metric")  # tables and keys by which a setting is judged


def check_space(space: Table, conf: Table) -> None:
    """Refuse a space that the conf's components would refuse: ends of ranges and listed values are tried.

    Raises:
        ConfigError: a key is unknown or decides how settings are judged, a range is upside down, or a value is not
            allowed.
    """
    for key, wanted in space.items():
        if "." not in key:
            raise ConfigError(f"the search space names '{key}'; expected TABLE.KEY, such as \"recommender.dim\"")
        if key in _JUDGES or key.partition(".")[0] in _JUDGES:
            raise ConfigError(
                f"the search space names {key}, with which settings would be judged by different data or metrics; "
                "compare its values as an axis of a study (lmm4rec study)"
            )
        for value in _ends(key, wanted):
            try:
                make_plan(load_spec(conf, {key: value}))
            except ConfigError as error:
                raise ConfigError(f"the search space of {key}: {error}") from None


def with_fractions(space: Table, conf: Table) -> dict[str, Any]:
    """The space with the fractions between whole ends, in ranges without a step of keys that take fractions."""
    found = dict(space)
    for key, wanted in space.items():
        if isinstance(wanted, Mapping) and "step" not in wanted and _is_integer(wanted):
            low, high = float(wanted["low"]), float(wanted["high"])
            try:
                make_plan(load_spec(conf, {key: (low + high) / 2}))
            except ConfigError:
                continue  # it takes whole numbers alone
            found[key] = {**wanted, "low": low, "high": high}
    return found


def draw(trial: Any, space: Table) -> dict[str, Any]:
    """A setting from the space, as an Optuna trial suggests it: dotted key -> value."""
    return {key: _suggest(trial, key, wanted) for key, wanted in space.items()}


def grid(space: Table) -> list[dict[str, Any]]:
    """Every setting of a space of lists and stepped ranges, the last key fastest; as choices that `draw` understands.

    Raises:
        ConfigError: a range has no step, so there is no end of settings in it.
    """
    columns = {key: _points(key, wanted) for key, wanted in space.items()}
    return [dict(zip(columns, values, strict=True)) for values in itertools.product(*columns.values())]


def _suggest(trial: Any, key: str, wanted: Any) -> Any:
    if isinstance(wanted, list):
        return wanted[trial.suggest_categorical(key, list(range(len(wanted))))]  # any TOML value can be listed
    low, high, log, step = wanted["low"], wanted["high"], wanted.get("log", False), wanted.get("step")
    if _is_integer(wanted):
        return trial.suggest_int(key, low, high, step=step or 1, log=log)
    return trial.suggest_float(key, float(low), float(high), step=step, log=log)


def _ends(key: str, wanted: Any) -> list[Any]:
    if isinstance(wanted, list) and wanted:
        return wanted
    if not isinstance(wanted, Mapping) or not {"low", "high"} <= set(wanted) <= _RANGE:
        raise ConfigError(
            f"the search space of {key} must be a list of values or {{ low = ..., high = ..., log = true }} "
            f"(or with a step); got {wanted!r}"
        )
    low, high = wanted["low"], wanted["high"]
    if not (_is_number(low) and _is_number(high) and low < high):
        raise ConfigError(f"the search space of {key}: low must be a number below high; got {low!r} and {high!r}")
    if wanted.get("log", False) and (low <= 0 or wanted.get("step")):
        raise ConfigError(f"the search space of {key}: log = true needs low above 0 and no step; got {wanted!r}")
    if not _is_number(wanted.get("step", 1)) or wanted.get("step", 1) <= 0:
        raise ConfigError(f"the search space of {key}: step must be a number above 0; got {wanted['step']!r}")
    return [low, high]


def _points(key: str, wanted: Any) -> list[Any]:
    """The values that a grid search enqueues: positions in a list, or the numbers of a stepped range."""
    if isinstance(wanted, list):
        return list(range(len(wanted)))
    if "step" not in wanted:
        raise ConfigError(f"a grid needs the values of {key} listed, or a step in its range; got {dict(wanted)!r}")
    count = int((wanted["high"] - wanted["low"]) / wanted["step"] + 1e-9) + 1
    return [min(wanted["low"] + index * wanted["step"], wanted["high"]) for index in range(count)]  # for rounding


def _is_integer(wanted: Mapping[str, Any]) -> bool:
    return all(isinstance(wanted[key], int) for key in ("low", "high", "step") if key in wanted)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
