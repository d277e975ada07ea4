"""Files of rule sets: TOML, with a table for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from lmm4rec.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from lmm4rec.serving.rules import RuleSet


def read_rules(given: str, where: Sequence[str]) -> RuleSet:
    """The rule set of `FILE` (which has one) or `FILE:NAME`, with more filters.

    Raises:
        ConfigError: the file or the set is missing or wrong.
    """
    from lmm4rec.experiments.conf.spec import read_conf
    from lmm4rec.serving.catalog_filters import Filter
    from lmm4rec.serving.rules import RuleSet

    path, _, name = (given, "", "") if Path(given).is_file() else given.rpartition(":")
    _, tables = read_conf(path or given)
    sets = {one: RuleSet.of(one, table) for one, table in tables.items()}  # all of them: a wrong one is said early
    if not name and len(sets) == 1:
        name = next(iter(sets))
    if name not in sets:
        wanted = f"has no rule set '{name}'.{did_you_mean(name, sets)}" if name else f"needs a name: {given}:NAME."
        raise ConfigError(f"{path or given} {wanted} Its rule sets: {', '.join(sets) or 'none'}")
    return replace(sets[name], where=(*sets[name].where, *map(Filter.parse, where)))
