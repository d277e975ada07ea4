"""Spec of a study: what all cells share, the axes along which they differ, and the options of the study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from typing_extensions import Doc

from lmm4rec.core.errors import ConfigError, did_you_mean
from lmm4rec.core.types import Fraction, NonNegativeFloat, NonNegativeInt, PositiveInt
from lmm4rec.experiments.conf.signature import resolve
from lmm4rec.experiments.conf.spec import STUDIES, TABLES, Table, read_conf, take_title
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.study.axis_presets import preset_values


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The keys of [study]."""

    metric: Annotated[str, Doc("Metric by which the report compares.")] = "recall@20"
    workers: Annotated[NonNegativeInt, Doc("Processes that work on runs; 0: as many as the cores hold.")] = 0
    threads: Annotated[PositiveInt, Doc("Threads of each process; other numbers change results' last digits.")] = 1
    gpus: Annotated[NonNegativeFloat | Literal["auto"], Doc("GPUs of a cluster for a run; a fraction shares one.")] = (
        "auto"
    )
    skip: Annotated[Sequence[Mapping[str, str | list[str]]], Doc("Combinations of axis values that are left out.")] = ()
    reference: Annotated[str, Doc("Design with which the others are compared; empty: the best by validation.")] = ""
    level: Annotated[Fraction, Doc("Significance level, over a family of comparisons.")] = 0.05


@dataclass(frozen=True)
class Value:
    """One value of an axis."""

    name: str
    overrides: Table
    space: Table  # hyper-parameters to search for cells of this value
    without: frozenset[str]  # axes and tables that do not apply to it


@dataclass(frozen=True)
class StudySpec:
    """A study conf, checked but for its cells."""

    name: str
    title: str
    options: StudyOptions
    fixed: Table  # the tables of an ordinary conf
    axes: Mapping[str, Sequence[Value]]
    search: SearchOptions | None


def load_study(conf: str | Path | Table, overrides: Table | None = None) -> StudySpec:
    """The spec of a study conf (or of the same as a mapping), dotted keys overridden: `{"axes.seed": [0]}`.

    Raises:
        ConfigError: the file is missing or no TOML, it has no axes, or a table, key or value is wrong.
    """
    name, content = read_conf(conf, overrides)
    title = take_title(content, name, (*TABLES, *STUDIES))
    if not content.get("axes"):
        raise ConfigError("a study needs an [axes] table; a conf without one is run by `lmm4rec run`")
    axes = {axis: _values(axis, values) for axis, values in content["axes"].items()}
    search = dict(content["search"]) if "search" in content else None
    fixed = {key: table for key, table in content.items() if key in TABLES}
    if search is None and (named := [v.name for values in axes.values() for v in values if v.space]):
        raise ConfigError(f"'{named[0]}' has a search space, and there is no [search] table with a budget")
    (options,) = resolve(content.get("study", {}), "study", StudyOptions)
    _check_names(axes, options["skip"])
    return StudySpec(
        name, title, StudyOptions(**options), fixed, axes, None if search is None else SearchOptions.of(search)
    )


def _values(axis: str, given: Any) -> list[Value]:
    if isinstance(given, list):
        given = preset_values(axis, given)
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(
            f"axes.{axis} must list its values or be a table with a table for each, such as "
            f'BPR = {{ "recommender.name" = "bpr" }}; got {given!r}'
        )
    return [_value(axis, str(name), table) for name, table in given.items()]


def _value(axis: str, name: str, table: Any) -> Value:
    if not isinstance(table, Mapping):
        raise ConfigError(f"axes.{axis}.{name} must be a table of dotted keys and values, got {table!r}")
    rest = dict(table)
    space, without = rest.pop("search", {}), rest.pop("without", [])
    if not isinstance(space, Mapping) or not isinstance(without, list):
        raise ConfigError(f"axes.{axis}.{name}: `search` is a table of keys, `without` a list of names")
    for key in rest:
        if key.split(".")[0] not in TABLES or "." not in key:
            raise ConfigError(
                f"axes.{axis}.{name} sets '{key}'; expected TABLE.KEY in quotes, of the tables {', '.join(TABLES)}"
            )
    names_first = sorted(rest.items(), key=lambda item: item[0].rpartition(".")[2] not in ("name", "method"))
    return Value(name, dict(names_first), dict(space), frozenset(without))


def _check_names(axes: Mapping[str, Sequence[Value]], skip: Sequence[Mapping[str, Any]]) -> None:
    for axis, values in axes.items():
        for value in values:
            _require_known(value.without, {*axes, *TABLES}, f"axes.{axis}.{value.name}: `without`")
    for rule in skip:
        _require_known(rule, axes, "study.skip")
        for axis, names in rule.items():
            wanted = [names] if isinstance(names, str) else names
            _require_known(wanted, [value.name for value in axes[axis]], f"study.skip: {axis}")


def _require_known(names: Any, known: Any, where: str) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(
                f"{where} names '{name}'.{did_you_mean(name, known)} There are: {', '.join(sorted(known))}"
            )
