"""Files of rule sets: TOML, with a table for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lmm4rec.core.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from lmm4rec.serving.rules import RuleSet


def read_rule_sets(path: str | Path) -> Mapping[str, RuleSet]:
    """The rule sets of a file, by name.

    Raises:
        ConfigError: the file is missing, or one of its sets is wrong.
    """
    from lmm4rec.experiments.conf.spec import read_conf
    from lmm4rec.serving.rules import RuleSet

    return {name: RuleSet.of(name, table) for name, table in read_conf(path)[1].items()}


def read_rules(given: str, where: Sequence[str]) -> RuleSet:
    """The rule set of `FILE` (which has one) or `FILE:NAME`, with more filters.

    Raises:
        ConfigError: the file or the set is missing or wrong.
    """
    from lmm4rec.serving.catalog_filters import Filter

    path, _, name = (given, "", "") if Path(given).is_file() else given.rpartition(":")
    sets = read_rule_sets(path or given)
    if not name and len(sets) == 1:
        name = next(iter(sets))
    if name not in sets:
        wanted = f"has no rule set '{name}'.{did_you_mean(name, sets)}" if name else f"needs a name: {given}:NAME."
        raise ConfigError(f"{path or given} {wanted} Its rule sets: {', '.join(sets) or 'none'}")
    return sets[name].with_filters([Filter.parse(one) for one in where])
