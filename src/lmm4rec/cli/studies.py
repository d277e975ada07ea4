"""What the commands on studies do: study, tune, report, reproduce."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from lmm4rec.cli.commands import console, overrides
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.demo import program
from lmm4rec.experiments.estimate.study import StudyEstimates
from lmm4rec.experiments.report.number_formats import metric_name, seconds
from lmm4rec.experiments.report.study_report import write_study_report
from lmm4rec.experiments.reproduce import reproduce
from lmm4rec.experiments.search.tune import split_conf, tune
from lmm4rec.experiments.study.cells import make_cells
from lmm4rec.experiments.study.folder import StudyFolder
from lmm4rec.experiments.study.progress import CellProgress, seconds_by_design, study_progress
from lmm4rec.experiments.study.spec import load_study
from lmm4rec.experiments.study.study import study, worker_count

_COLORS = {"done": "green", "failed": "red", "running": "yellow", "waiting": "dim"}


def run_study(conf: Path, settings: Sequence[str], out: Path | None, *, resume: bool, workers: int | None) -> None:
    """`lmm4rec study`."""
    result = study(conf, overrides(settings), out=out, resume=resume, workers=workers)
    for stage, failure in result.folder.failures().items():
        console.print(f"[red]failed[/]   {stage}: {failure['error']}: {_plain(failure['message'])}", soft_wrap=True)
    console.print(
        f"done     {len(result.done)} of {len(result.done) + len(result.failed)} cells in {result.folder.path}"
    )
    if not result.done:
        sys.exit(1)
    report([result.folder.path], result.folder.report, "")
    if result.failed:
        sys.exit(1)


def show_status(conf: Path, settings: Sequence[str], out: Path | None) -> None:
    """`lmm4rec study --status`."""
    spec = load_study(conf, overrides(settings))
    found = study_progress(spec, make_cells(spec), StudyFolder(out or Path("runs") / spec.name))
    table = Table(
        "cell", "", metric_name(spec.options.metric) + ", valid", "time", "", title=spec.title, title_justify="left"
    )
    for state in found:
        table.add_row(
            state.cell.name,
            f"[{_COLORS[state.state]}]{state.state}[/]",
            "" if state.value is None else f"{state.value:.4f}",
            seconds(state.seconds) if state.seconds else "",
            _plain(state.message),
        )
    console.print(table)
    console.print(", ".join(f"{sum(s.state == name for s in found)} {name}" for name in _COLORS))


def dry_run(conf: Path, settings: Sequence[str], out: Path | None, workers: int | None) -> None:
    """`lmm4rec study --dry-run`."""
    spec = load_study(conf, overrides(settings))
    cells = make_cells(spec)
    found = study_progress(spec, cells, StudyFolder(out or Path("runs") / spec.name))
    estimates = StudyEstimates(spec, seconds_by_design(found))
    count = worker_count(spec, cells) if workers is None else max(1, workers)
    table = Table("cell", "", "run", "search", title=spec.title, title_justify="left")
    total, searched = 0.0, set[str]()
    for state in found:
        run_s, search_s, measured = _expected(state, estimates, searched)
        total += run_s + search_s
        said = "done" if state.state == "done" else seconds(run_s) if measured else f"{_sign(state)} {seconds(run_s)}"
        table.add_row(state.cell.name, state.state, said, f"≤ {seconds(search_s)}" if search_s else "")
    console.print(table)
    console.print(
        f"{len(cells)} cells; at most about {seconds(total / count)} by {count} workers ({seconds(total)} of one). "
        "Runs stop earlier where validation says so. Encoding and tuning encoders come on top, once for each data set "
        "and encoder; so does the encoder's part of training end to end (`lmm4rec run --dry-run` states it).",
        soft_wrap=True,
    )


def _sign(state: CellProgress) -> str:
    """What is known of an estimate: an upper bound, but for the passes of an encoder in training."""
    return ">" if state.cell.plan.features.train == "end2end" else "≤"


def _expected(state: CellProgress, estimates: StudyEstimates, searched: set[str]) -> tuple[float, float, bool]:
    """Seconds of the cell's run, of its design's search (for its first cell), and whether the first were measured."""
    if state.state == "done":
        searched.add(state.cell.design_name)
        return 0.0, 0.0, True
    run_s, measured = estimates.cell(state.cell).seconds, estimates.is_measured(state.cell)
    search_s = 0.0 if state.cell.design_name in searched else estimates.search(state.cell).seconds
    searched.add(state.cell.design_name)
    return run_s, search_s, measured


def tune_conf(conf: Path, settings: Sequence[str], out: Path | None) -> None:
    """`lmm4rec tune`."""
    name, tables, options = split_conf(conf)
    spec = load_spec(tables, overrides(settings))
    found = tune({"title": spec.title, **spec.tables}, options, out or Path("runs") / f"{name}-search")
    for key, value in found.best.items():
        console.print(f"{key} = {value!r}")
    console.print(f"validation {found.value:.4f}, the best of {found.trials} settings")
    console.print(f"run      {program()} run {found.conf}", soft_wrap=True)


def report(folders: Sequence[Path], out: Path | None, against: str) -> None:
    """`lmm4rec report`."""
    place = out or (folders[0] / "report" if len(folders) == 1 else Path("runs") / "report")
    page = write_study_report(folders, place, reference=against)
    console.print((place / "tables" / "results.md").read_text(encoding="utf-8"), markup=False, soft_wrap=True)
    console.print(f"report   {page}")
    console.print(f"tables   {place / 'tables'}  figures {place / 'figures'}  data {place / 'data'}", soft_wrap=True)


def reproduce_run(folder: Path, out: Path | None, tolerance: float) -> None:
    """`lmm4rec reproduce`."""
    found = reproduce(folder, out=out, tolerance=tolerance)
    for name, (before, now) in found.changed.items():
        console.print(f"changed  {name}: {_plain(before)} then, {_plain(now)} now")
    if not found.same_split:
        console.print("[red]differs[/]  the split: other users, items or interactions in its parts")
    for difference in found.differences[:10]:
        console.print(f"[red]differs[/]  {difference.name}: {difference.before:.6f} then, {difference.now:.6f} now")
    said = "[green]the same[/]" if found.succeeded else "[red]not the same[/]"
    console.print(
        f"{said}: {found.compared - len(found.differences)} of {found.compared} metrics within {found.tolerance:g}, "
        f"the largest difference is {found.largest:.2g}; written to {found.out}",
        soft_wrap=True,
    )
    if not found.succeeded:
        sys.exit(1)


def _plain(text: str) -> str:
    return str(text).replace("[", r"\[")
