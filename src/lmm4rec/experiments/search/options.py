"""Options of a search: the keys of [search]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import NonNegativeInt, PositiveInt
from lmm4rec.experiments.conf.signature import resolve
from lmm4rec.experiments.conf.spec import TABLES, Table


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """The keys of [search]; those with a dot in them are the space."""

    budget: Annotated[PositiveInt, Doc("Settings tried, the same for every design; pruned and failed ones count.")] = 20
    sampler: Annotated[Literal["tpe", "random", "grid"], Doc("How settings are chosen.")] = "tpe"
    pruner: Annotated[Literal["median", "none"], Doc("Stop settings early that are below the median.")] = "median"
    startup: Annotated[NonNegativeInt, Doc("Settings drawn at random before TPE learns, never pruned.")] = 5
    warmup: Annotated[NonNegativeInt, Doc("Epochs before a setting can be pruned.")] = 5
    storage: Annotated[str, Doc("Database URL (postgresql://...); empty: an SQLite file in the folder.")] = ""
    seed: Annotated[NonNegativeInt, Doc("Seed of the sampler.")] = 0
    space: Annotated[Table, Doc("Table: dotted keys, each with a list of values or { low, high, log, step }.")]

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> SearchOptions:
        """The options of a [search] table, in which dotted keys (or a table of them, `space`) are the space.

        Raises:
            ConfigError: a key or value is wrong.
        """
        rest, space = dict(table), dict(table.get("space", {}))
        for key in table:
            if "." in key:
                space[key] = rest.pop(key)
            elif key in TABLES:
                raise ConfigError(
                    f"[search] has a table '{key}': put dotted keys in quotes, such as \"{key}.KEY\" = [...]"
                )
        (arguments,) = resolve({**rest, "space": space}, "search", cls)
        return cls(**arguments)
