"""The rule sets of a bundle in service: checked at load, chosen by requests, reported in answers."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.core.files import write_text
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.catalog_filters import Filter
from lmm4rec.serving.http.metrics import SHARED
from lmm4rec.serving.http.problems import InvalidValue, Problem
from lmm4rec.serving.http.schemas import RuleChange
from lmm4rec.serving.rule_ranking import RuledList
from lmm4rec.serving.rules import RuleSet

logger = logging.getLogger(__name__)
_REFUSED = "refused_rules.txt"  # in the folder that several processes share


class RefusedRulesError(ConfigError):
    """The rule file is wrong, or does not fit a bundle."""


class ServedRules:
    """The rule sets of a bundle in service, and why newer ones were refused."""

    def __init__(self, name: str, read: Callable[[], Mapping[str, RuleSet]]) -> None:
        self._name, self._read = name, read
        self.sets: Mapping[str, RuleSet] = {}
        self._error: str | None = None
        self._read_at = 0.0

    def read_for(self, bundle: Bundle) -> Mapping[str, RuleSet]:
        """The newest rule sets, which fit a bundle; `use` puts them in service.

        Raises:
            RefusedRulesError: one does not, or the file is wrong; the service keeps the old rules and the old bundle.
        """
        self._read_at = time.time()
        try:
            sets = self._read()
            left = check_rule_sets(self._name, bundle, sets)
        except ConfigError as error:
            self._error = str(error)
            raise RefusedRulesError(self._error) from None
        for name, items in left.items():
            if not items:
                logger.warning("%s: the rule set '%s' leaves no item", self._name, name)
        return sets

    def use(self, sets: Mapping[str, RuleSet]) -> None:
        """Put rule sets in service."""
        self.sets, self._error = sets, None

    @property
    def error(self) -> str | None:
        """Why the newest rules were refused, here or by a process that was to replace this one; None where not."""
        path = Path(os.environ.get(SHARED, "")) / _REFUSED
        if SHARED in os.environ and path.is_file() and path.stat().st_mtime > self._read_at:
            return path.read_text(encoding="utf-8")
        return self._error


def tell_others_of(error: RefusedRulesError) -> None:
    """Let the other processes of the service say why this one, which was to replace one of them, refused the rules."""
    write_text(Path(os.environ[SHARED]) / _REFUSED, str(error))


def check_rule_sets(name: str, bundle: Bundle, sets: Mapping[str, RuleSet]) -> Mapping[str, int]:
    """The number of items that each rule set leaves of a bundle's catalog.

    Raises:
        ConfigError: a set does not fit the bundle; it names both.
    """
    left = {}
    for one, rules in sets.items():
        try:
            left[one] = bundle.check_rules(rules)
        except ConfigError as error:
            raise ConfigError(f"rule set '{one}' does not fit the bundle '{name}': {error}") from None
    return left


def chosen_rules(sets: Mapping[str, RuleSet], name: str) -> RuleSet:
    """The rule set of a name.

    Raises:
        Problem: there is none.
    """
    if name not in sets:
        known = f"there are: {', '.join(sets)}" if sets else "the service was started without rules (serve --rules)"
        detail = f"no rule set is called '{name[:100]}'.{did_you_mean(name, sets)} {known[0].upper()}{known[1:]}"
        raise Problem(HTTPStatus.NOT_FOUND, detail)
    return sets[name]


def parsed_filters(texts: Sequence[str], where: str) -> tuple[Filter, ...]:
    """The filters of a request, which gives them at `where`.

    Raises:
        Problem: one is none.
    """
    try:
        return tuple(Filter.parse(text) for text in texts)
    except ConfigError as error:
        raise refused_filters(error, where) from None


def refused_filters(error: ConfigError, where: str) -> Problem:
    """The problem of filters that do not fit the catalog."""
    value = InvalidValue(where=where, message=str(error))
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{where}: {error}", [value])


def changes(found: RuledList) -> list[RuleChange]:
    """How many items of a list each rule moved, and how many of the list without rules it removed."""
    removed = Counter(found.left_out.values())
    place = {item: at for at, item in enumerate(found.without_rules)}
    moved = Counter(
        rule
        for at, one in enumerate(found.items)
        if place.get(one.item) != at
        for rule in found.reasons.get(one.item, ())
    )
    return [
        RuleChange(rule=rule, removed=removed[rule], moved=moved[rule]) for rule in dict.fromkeys([*removed, *moved])
    ]
