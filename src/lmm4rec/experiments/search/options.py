"""Options of a search: the keys of [search]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import NonNegativeInt, PositiveInt
from lmm4rec.experiments.conf.signature import resolve
from lmm4rec.experiments.conf.spec import TABLES, Table


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """The keys of [search]; those with a dot in them are the space."""

    budget: PositiveInt = 20  # trials, the same for every cell; pruned and failed ones count
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    pruner: Literal["median", "none"] = "median"
    startup: NonNegativeInt = 5  # trials at random before TPE learns, none of which is pruned
    warmup: NonNegativeInt = 5  # epochs before a trial can be pruned
    storage: str = ""  # a database URL, such as "postgresql://..."; empty: an SQLite file in the search's folder
    seed: NonNegativeInt = 0  # of the sampler
    space: Table  # dotted key -> list, or { low, high, log, step }

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
