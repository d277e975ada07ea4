"""Resumed study: what its folder holds must be what its conf says now, for cells of two confs compare wrongly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.files import read_json
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.folder import differences, plan_changes
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.search.tune import SEARCH, read_tuned
from lmm4rec.experiments.study.cells import Cell
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.spec import StudySpec


def check_resumed(spec: StudySpec, cells: Sequence[Cell], folder: StudyFolder) -> None:
    """Check that begun cells and searches have the conf's keys, so that a resumed study only grows by new ones.

    Raises:
        ConfigError: one was begun with another conf; it names the cell or search, the keys and both values.
    """
    firsts: dict[str, Cell] = {}
    for cell in cells:
        firsts.setdefault(cell.design_name, cell)
    if spec.search:
        for first in firsts.values():
            if first.space and (folder.search(first.design_name) / SEARCH).exists():
                _check_search(spec.search, first, folder)
    for cell in cells:
        if folder.cell(cell.name).experiment.exists():
            _check_cell(cell, folder)


def _check_cell(cell: Cell, folder: StudyFolder) -> None:
    """Compare a begun cell with its plan, which has the settings that a search chose."""
    run, plan = folder.cell(cell.name), cell.plan
    if cell.space:
        tuned = read_tuned(folder.search(cell.design_name))
        if tuned is None:
            raise ConfigError(
                f"cell '{cell.name}' was begun, and the search of {', '.join(cell.space)} that its conf asks for is "
                f"not finished; remove {run.path} to have it run after the search, or begin another study with -o"
            )
        plan = make_plan(load_spec(cell.conf, tuned.best))
    _refuse(f"cell '{cell.name}'", str(run.path), plan_changes(run.plan(), plan))


def _check_search(search: SearchOptions, first: Cell, folder: StudyFolder) -> None:
    """Compare a begun search with that of the conf: its options, its space, and the plan of the design's first cell."""
    place = folder.search(first.design_name)
    before = read_json(place / SEARCH)
    options = read_json(folder.record)["search"] or {}  # those of an earlier version may lack some
    kept = [key for key in options if key not in ("space", "storage")]
    old = {key: options[key] for key in kept} | {"space": before["search"]["space"]}
    new = {key: value for key, value in asdict(search).items() if key in kept} | {"space": dict(first.space)}
    changes = differences({"search": old}, {"search": new})
    plans = plan_changes(make_plan(load_spec(before["conf"])), first.plan)
    if read_tuned(place):  # it is done, whichever seed comes first by now
        plans = [change for change in plans if not change.startswith("train.seed ")]
    _refuse(f"the search of '{first.design_name}'", str(place), [*changes, *plans])


def _refuse(what: str, place: str, changes: Sequence[str]) -> None:
    if changes:
        raise ConfigError(
            f"{what} was begun with another conf ({'; '.join(changes[:5])}); resume with the conf that it has, begin "
            f"another study with -o, or remove {place} to have it done again"
        )
