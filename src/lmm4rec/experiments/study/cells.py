"""Cells of a study: one for each combination of the axes' values, each an ordinary conf."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.data.splits import PARTS
from lmm4rec.experiments.conf.spec import TABLES, Table, load_spec
from lmm4rec.experiments.plan import Plan, check_metric, make_plan
from lmm4rec.experiments.search.space import check_space
from lmm4rec.experiments.study.axis_presets import SEED
from lmm4rec.experiments.study.spec import StudySpec, Value


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    name: str  # its folder's
    axes: Mapping[str, str]  # axis -> name of the value; an axis that does not apply is not there
    conf: Table
    space: Table  # hyper-parameters that are searched before it runs; empty: none
    plan: Plan  # of the conf before any search

    @property
    def design(self) -> Mapping[str, str]:
        """The axes without the seed."""
        return {axis: value for axis, value in self.axes.items() if axis != SEED}

    @property
    def design_name(self) -> str:
        """The folder name of the design."""
        return cell_name(self.design)


def make_cells(spec: StudySpec) -> list[Cell]:
    """The cells in the order of the axes, the first axis slowest.

    Raises:
        ConfigError: a cell's conf is wrong (before any work), or two cells would share a folder.
    """
    cells: dict[str, Cell] = {}
    checked: set[str] = set()
    for chosen in _combinations(spec):
        axes = {axis: value.name for axis, value in chosen.items()}
        name = cell_name(axes)
        if name in cells and cells[name].axes == axes:
            continue  # it differs only in an axis that does not apply
        if name in cells:
            raise ConfigError(f"{axes} and {dict(cells[name].axes)} are both named '{name}'; rename a value")
        cells[name] = _cell(spec, name, axes, list(chosen.values()))
        _check_space(cells[name], checked)
    if not cells:
        raise ConfigError("study.skip leaves no cell")
    return list(cells.values())


def cell_name(axes: Mapping[str, str]) -> str:
    """The folder name of a combination: `vbpr_clip_frozen_seed-0`."""
    parts = [f"{axis}-{value}" if _is_number(value) else value for axis, value in axes.items()]
    return "_".join(_slug(part) for part in parts)


def _combinations(spec: StudySpec) -> Iterator[dict[str, Value]]:
    for combination in itertools.product(*spec.axes.values()):
        chosen = dict(zip(spec.axes, combination, strict=True))
        excluded: set[str] = set()
        for axis, value in chosen.items():
            excluded |= value.without if axis not in excluded else set()
        kept = {axis: value for axis, value in chosen.items() if axis not in excluded}
        if not any(_matches(rule, kept) for rule in spec.options.skip):
            yield kept


def _matches(rule: Mapping[str, Any], chosen: Mapping[str, Value]) -> bool:
    return all(axis in chosen and chosen[axis].name in _listed(names) for axis, names in rule.items())


def _listed(names: str | Sequence[str]) -> Sequence[str]:
    return [names] if isinstance(names, str) else names


def _cell(spec: StudySpec, name: str, axes: Mapping[str, str], values: Sequence[Value]) -> Cell:
    overrides: dict[str, Any] = {}
    for value in values:
        for key, setting in value.overrides.items():
            if overrides.get(key, setting) != setting:
                raise ConfigError(f"cell '{name}': two of its axes set '{key}', to {overrides[key]!r} and {setting!r}")
            overrides[key] = setting
    without = frozenset[str]().union(*(value.without for value in values))
    if "encoder" in without:
        without |= {"features"}  # which say how an encoder's vectors are used
    fixed = {key: table for key, table in spec.fixed.items() if key not in without}
    searched = dict(spec.search.space) if spec.search else {}
    for value in values:
        searched |= value.space
    title = ", ".join(f"{axis} {value}" if _is_number(value) else value for axis, value in axes.items())
    try:
        loaded = load_spec({"title": title, **fixed}, overrides)
        conf = {"title": title} | {table: loaded.tables[table] for table in TABLES if table in loaded.tables}
        plan = make_plan(load_spec(conf))
        for part in PARTS:
            plan.require_share(part, "a study compares by it")
        check_metric("study.metric", spec.options.metric, plan.evaluate.table)
        tables = {*plan.tables} - (set() if plan.recommender.is_trained else {"train"})
        space = {key: wanted for key, wanted in searched.items() if key.split(".")[0] in tables}
    except ConfigError as error:
        raise ConfigError(f"cell '{name}': {error}") from None
    return Cell(name, axes, conf, space, plan)


def _check_space(cell: Cell, checked: set[str]) -> None:
    """Check the cell's search space, once for all cells that have the same tables to search in."""
    tables = {key.split(".")[0] for key in cell.space}
    seen = fingerprint(dict(cell.space), [cell.conf.get(table) for table in sorted(tables)])
    if seen in checked:
        return
    checked.add(seen)
    try:
        check_space(cell.space, cell.conf)
    except ConfigError as error:
        raise ConfigError(f"cell '{cell.name}': {error}") from None


def _slug(text: str) -> str:
    kept = "".join(letter if letter.isalnum() or letter == "." else " " for letter in text.lower())
    return "-".join(kept.split()) or "x"


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdigit()
