"""What a cell needs done, in order: its features in the store, its settings searched, its run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lmm4rec.core.files import write_json
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.experiments.build.workbench import Workbench
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.run import run
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.search.tune import read_tuned, tune
from lmm4rec.experiments.study.cells import Cell
from lmm4rec.experiments.study.folder import StudyFolder

_PER_CELL = ("modalities", "ablate", "hide", "hide_at", "alter_seed", "batch_size", "workers", "memory_mb", "strict")
_PARADIGM = ("train", "finetune", "adapter", "end2end")  # end-to-end training begins at the frozen encoder's features


@dataclass(frozen=True)
class Stage:
    """A piece of work that one worker does; several cells may share it."""

    name: str
    is_done: Callable[[], bool]
    carry_out: Callable[[Workbench], None]


def stages(cell: Cell, first: Cell, folder: StudyFolder, search: SearchOptions | None) -> list[Stage]:
    """The stages of a cell; `first` is the first cell of its design, under whose seed settings are searched."""
    found = [_run(cell, folder)]
    if cell.space and search:
        found.insert(0, _search(cell, first, folder, replace(search, space=cell.space)))
    if "encoder" in cell.plan.tables:
        found.insert(0, _content(cell, folder))
    return found


def _content(cell: Cell, folder: StudyFolder) -> Stage:
    key = content_key(cell.plan)
    mark = folder.made(key)

    def carry_out(bench: Workbench) -> None:
        plan = _whole(cell.plan)
        catalog = bench.dataset(plan).catalog
        content = bench.content(plan, catalog)
        shapes = {name: list(x.shape) for name, x in content.features.items()}
        write_json(mark, {"modalities": shapes, **content.cost})

    return Stage(f"content-{key}", mark.exists, carry_out)


def content_key(plan: Plan) -> str:
    """What tells the features of a plan from others: data, encoder, and how it is tuned."""
    whatever = _PER_CELL if plan.tables["features"]["train"] == "finetuned" else (*_PER_CELL, *_PARADIGM)
    features = {key: value for key, value in plan.tables["features"].items() if key not in whatever}
    return fingerprint(plan.tables["data"], plan.tables["encoder"], features)[:16]


def _whole(plan: Plan) -> Plan:
    """The plan with all that the encoder gives, as it gives it."""
    features = {key: value for key, value in plan.tables["features"].items() if key not in ("ablate", "hide")}
    return replace(plan, tables={**plan.tables, "features": features | {"modalities": []}})


def _search(cell: Cell, first: Cell, folder: StudyFolder, options: SearchOptions) -> Stage:
    place = folder.search(cell.design_name)

    def carry_out(bench: Workbench) -> None:
        tune(first.conf, options, place, workbench=bench)

    return Stage(f"search-{cell.design_name}", lambda: read_tuned(place) is not None, carry_out)


def _run(cell: Cell, folder: StudyFolder) -> Stage:
    place = folder.cell(cell.name)

    def carry_out(bench: Workbench) -> None:
        found = read_tuned(folder.search(cell.design_name)) if cell.space else None
        settings: dict[str, Any] = dict(found.best) if found else {}
        run(cell.conf, settings, out=place.path, resume=place.experiment.exists(), workbench=bench)

    return Stage(f"cell-{cell.name}", lambda: place.is_finished, carry_out)


def plan_work(cells: Sequence[Cell], folder: StudyFolder, search: SearchOptions | None) -> list[list[Stage]]:
    """The stages of every cell, in the cells' order."""
    firsts: dict[str, Cell] = {}
    for cell in cells:
        firsts.setdefault(cell.design_name, cell)
    return [stages(cell, firsts[cell.design_name], folder, search) for cell in cells]
