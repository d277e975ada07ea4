"""Tasks of a study, in each cell's order: encode its features, search its hyper-parameters, run it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from shutil import rmtree
from typing import Any

from lmm4rec.core.files import write_json
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.conf.sections import FeaturesSection
from lmm4rec.experiments.plan import Plan
from lmm4rec.experiments.remote_copy import RemoteCopy, copied
from lmm4rec.experiments.run import run
from lmm4rec.experiments.search.options import SearchOptions
from lmm4rec.experiments.search.tune import SEARCH, TUNED, begin_search, read_tuned, tune
from lmm4rec.experiments.study.cells import Cell
from lmm4rec.experiments.study.folder import StudyFolder

_PER_CELL = (
    "modalities", "ablate", "hide", "hide_at", "alter_seed", "rotate", "vector_precision", "batch_size", "workers",
    "memory_mb", "strict",
)  # fmt: skip
_PARADIGM = ("train", "finetune", "adapter", "end2end")  # end-to-end training begins at the frozen encoder's features


@dataclass(frozen=True)
class Task:
    """A piece of work that one worker does; several cells may share it.

    Where the study's folder has a copy in an object store (`StudyFolder.remote`), work reads and writes that.
    """

    name: str
    place: str  # the file or folder that it writes, in the study's folder
    last: str  # the file of it that is written when it is done
    is_done: Callable[[], bool]
    work: Callable[[DataCache], None]


def study_tasks(cells: Sequence[Cell], folder: StudyFolder, search: SearchOptions | None) -> list[list[Task]]:
    """The tasks of every cell, in the cells' order."""
    firsts: dict[str, Cell] = {}
    for cell in cells:
        firsts.setdefault(cell.design_name, cell)
    return [_cell_tasks(cell, firsts[cell.design_name], folder, search) for cell in cells]


def task_names(cell: Cell) -> list[str]:
    """The names of the tasks that a cell can have, its run first."""
    names = [f"cell-{cell.name}", f"search-{cell.design_name}"]
    return [*names, f"content-{features_key(cell.plan)}"] if cell.plan.encoder else names


def features_key(plan: Plan) -> str:
    """The key of the features of a plan: data, encoder, and its fine-tuning."""
    left_out = _PER_CELL if plan.features.train == "finetuned" else (*_PER_CELL, *_PARADIGM)
    features = {key: value for key, value in plan.features.table.items() if key not in left_out}
    encoder = plan.encoder.table if plan.encoder else {}
    return fingerprint(plan.data.table, encoder, features)[:16]


def _cell_tasks(cell: Cell, first: Cell, folder: StudyFolder, search: SearchOptions | None) -> list[Task]:
    """The tasks of a cell; `first` is the first cell of its design, with whose seed hyper-parameters are searched."""
    tasks = [_run_task(cell, folder)]
    if cell.space and search:
        tasks.insert(0, _search_task(cell, first, folder, replace(search, space=cell.space)))
    if cell.plan.encoder:
        tasks.insert(0, _features_task(cell, folder))
    return tasks


def _features_task(cell: Cell, folder: StudyFolder) -> Task:
    key = features_key(cell.plan)
    mark = folder.features_mark(key)
    place = mark.relative_to(folder.path).as_posix()

    def work(data: DataCache) -> None:
        plan = _with_all_features(cell.plan)
        loaded = load_features(plan, data.dataset(plan).catalog)
        shapes = {name: list(x.shape) for name, x in loaded.features.items()}
        write_json(mark, {"modalities": shapes, **loaded.cost})
        if folder.remote:
            folder.remote.put(place)

    return Task(f"content-{key}", place, place, mark.exists, work)


def _with_all_features(plan: Plan) -> Plan:
    """The plan with all modalities of the encoder and without ablation."""
    table = {key: value for key, value in plan.features.table.items() if key not in ("ablate", "hide")}
    return replace(plan, features=FeaturesSection.of({**table, "modalities": []}))


def _search_task(cell: Cell, first: Cell, folder: StudyFolder, options: SearchOptions) -> Task:
    place = folder.search(cell.design_name)
    written = place.relative_to(folder.path).as_posix()

    def work(data: DataCache) -> None:
        remote = RemoteCopy(f"{folder.remote.address}/{written}") if folder.remote else None
        if remote and not remote.names():
            rmtree(place, ignore_errors=True)  # of an earlier study at this address
        if remote:
            remote.begin(resume=True)
            begin_search(place, first.conf, options)
            remote.put(SEARCH)  # at once, so that after a kill another machine finds the trials in their database
        with copied(remote):
            tune(first.conf, options, place, data=data)

    return Task(
        f"search-{cell.design_name}", written, f"{written}/{TUNED}", lambda: read_tuned(place) is not None, work
    )


def _run_task(cell: Cell, folder: StudyFolder) -> Task:
    place, search = folder.cell(cell.name), folder.search(cell.design_name)
    written = place.path.relative_to(folder.path).as_posix()

    def work(data: DataCache) -> None:
        out, is_begun = str(place.path), place.experiment.exists()
        if folder.remote:
            out = f"{folder.remote.address}/{written}"
            is_begun = folder.remote.holds(f"{written}/{place.experiment.name}")
            if not is_begun:
                rmtree(place.path, ignore_errors=True)  # of an earlier study at this address
            if cell.space:
                folder.remote.fetch(f"{search.relative_to(folder.path).as_posix()}/{TUNED}")
        tuned = read_tuned(search) if cell.space else None
        settings: dict[str, Any] = dict(tuned.best) if tuned else {}
        run(cell.conf, settings, out=out, resume=is_begun, data=data)

    return Task(f"cell-{cell.name}", written, f"{written}/{place.metrics.name}", lambda: place.is_finished, work)
