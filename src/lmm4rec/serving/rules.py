"""Rule sets: what a shop wants of its lists beside the best scores."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.serving.catalog_filters import Filter


class Boost(NamedTuple):
    """Items that pass the filters get a higher score, by this many standard deviations of the user's scores."""

    where: tuple[Filter, ...]
    by: float

    def __str__(self) -> str:
        return f"boost {', '.join(map(str, self.where))} by {self.by:g}"


class Fresh(NamedTuple):
    """The first places of a list belong to items that pass the filters, where there are any."""

    where: tuple[Filter, ...]
    places: int

    def __str__(self) -> str:
        return f"fresh {', '.join(map(str, self.where))}"


@dataclass(frozen=True)
class RuleSet:
    """The rules for a list, of which any may be left out."""

    where: tuple[Filter, ...] = ()  # only items that pass all of these
    never: frozenset[str] = frozenset()  # ids of items that are not shown; those of gone items may stay
    boost: tuple[Boost, ...] = ()
    most: tuple[tuple[str, int], ...] = ()  # column, most items of one value; empty cells do not count
    fresh: Fresh | None = None
    diversity: float = 0.0  # 0: by score alone; 1: each item as unlike the ones above as can be
    diversity_by: str = "vectors"  # what is compared: the model's vectors, or the items' "content"

    @classmethod
    def of(cls, name: str, table: Mapping[str, Any]) -> RuleSet:
        """The rule set of a table with the names of the fields; filters are texts, such as `price<=50`.

        Raises:
            ConfigError: a key or a value is wrong.
        """
        take = _Taker(f"rule set '{name}'", table)
        boosts = [take.inner(one, "boost", ("where", "by")) for one in take.list_of("boost", dict)]
        fresh = take.inner(table["fresh"], "fresh", ("where", "places")) if "fresh" in table else None
        rules = cls(
            where=take.filters("where"),
            never=frozenset(map(str, take.list_of("never", str | int))),
            boost=tuple(Boost(one.filters("where", needed=True), one.number("by")) for one in boosts),
            most=tuple((column, take.count("most", value)) for column, value in take.mapping("most").items()),
            fresh=Fresh(fresh.filters("where", needed=True), fresh.count("places", fresh.table.get("places", 1)))
            if fresh
            else None,
            diversity=take.number("diversity", 0.0, least=0.0, most=1.0),
            diversity_by=take.one_of("diversity_by", ("vectors", "content")),
        )
        take.refuse_unknown(("where", "never", "boost", "most", "fresh", "diversity", "diversity_by"))
        return rules

    def with_filters(self, filters: Sequence[Filter]) -> RuleSet:
        """The same rules with more filters."""
        return replace(self, where=(*self.where, *filters)) if filters else self

    def words(self) -> list[str]:
        """What the rules do, a line for each."""
        words = [f"only {one}" for one in self.where]
        if self.never:
            words.append(f"never {len(self.never):,} {'item' if len(self.never) == 1 else 'items'}")
        words += [f"{boost} standard deviations of the scores" for boost in self.boost]
        words += [f"at most {most} of one {column}" for column, most in self.most]
        if self.fresh is not None:
            places = "the first place" if self.fresh.places == 1 else f"the first {self.fresh.places} places"
            words.append(f"{self.fresh}: {places}, where there are such items")
        if self.diversity:
            by = " in content" if self.diversity_by == "content" else ""
            words.append(f"diversity {self.diversity:g}: items less like those above{by}")
        return words


class _Taker:
    """The values of a table, checked one by one."""

    def __init__(self, where: str, table: Mapping[str, Any]) -> None:
        self.where, self.table = where, table
        if not isinstance(table, Mapping):
            raise ConfigError(f"{where} must be a table of rules, got {table!r}")

    def refuse_unknown(self, known: Sequence[str]) -> None:
        """Raise ConfigError where the table has another key."""
        for key in self.table:
            if key not in known:
                raise ConfigError(
                    f"{self.where} has no rule '{key}'.{did_you_mean(key, known)} It takes: {', '.join(known)}"
                )

    def inner(self, table: Any, key: str, known: Sequence[str]) -> _Taker:
        """A table inside the table."""
        inner = _Taker(f"{self.where}, {key}", table)
        inner.refuse_unknown(known)
        return inner

    def list_of(self, key: str, kind: Any) -> list[Any]:
        """The list under a key; empty where it is missing."""
        values = self.table.get(key, [])
        if not isinstance(values, list | tuple) or not all(isinstance(value, kind) for value in values):
            raise ConfigError(f"{self.where}: {key} must be a list, such as {key} = [{_EXAMPLES[key]}]; got {values!r}")
        return list(values)

    def filters(self, key: str, *, needed: bool = False) -> tuple[Filter, ...]:
        """The filters under a key."""
        if needed and key not in self.table:
            raise ConfigError(f"{self.where} needs {key}, such as {key} = [{_EXAMPLES['where']}]")
        return tuple(Filter.parse(text) for text in self.list_of(key, str))

    def mapping(self, key: str) -> Mapping[str, Any]:
        """The table under a key; empty where it is missing."""
        found = self.table.get(key, {})
        if not isinstance(found, Mapping):
            raise ConfigError(f"{self.where}: {key} must be a table, such as {key} = {{ brand = 2 }}; got {found!r}")
        return found

    def count(self, key: str, value: Any) -> int:
        """A whole number from 1."""
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{self.where}: {key} takes whole numbers from 1; got {value!r}")
        return value

    def one_of(self, key: str, values: Sequence[str]) -> str:
        """One of the values; the first where the key is missing."""
        value = self.table.get(key, values[0])
        if value not in values:
            raise ConfigError(f"{self.where}: {key} is {' or '.join(values)}; got {value!r}")
        return str(value)

    def number(self, key: str, default: float | None = None, least: float = -math.inf, most: float = math.inf) -> float:
        """A number within bounds."""
        value = self.table.get(key, default)
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not (math.isfinite(value) and least <= value <= most)
        ):
            bounds = f" from {least:g} to {most:g}" if math.isfinite(least) else ""
            raise ConfigError(f"{self.where}: {key} takes a number{bounds}; got {value!r}")
        return float(value)


_EXAMPLES = {"where": '"price<=50"', "never": '"T0001"', "boost": '{ where = ["brand=Acme"], by = 0.5 }'}
