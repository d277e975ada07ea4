"""Commands on many runs: study, tune, report, reproduce."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lmm4rec.cli import completion
from lmm4rec.cli.console import console, escaped, quoted
from lmm4rec.cli.options import Cluster, Conf, Out, RemoteOut, Settings, Workers, local_path, overrides, requested_pool

if TYPE_CHECKING:
    from lmm4rec.experiments.estimate.study import StudyEstimates
    from lmm4rec.experiments.study.progress import CellProgress

studies = typer.Typer(rich_markup_mode="rich")

_PANEL = "Compare many runs"
_COLORS = {"done": "green", "failed": "red", "running": "yellow", "waiting": "dim"}


@studies.command("study", rich_help_panel=_PANEL)
def study_command(
    conf: Annotated[
        Path,
        typer.Argument(
            metavar="CONF", help="A .conf file with \\[axes].", autocompletion=completion.confs, parser=local_path
        ),
    ],
    settings: Settings = None,
    out: RemoteOut = "",
    resume: Annotated[bool, typer.Option("--resume", help="Continue a study.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show the state of its cells, without running.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and their time, without running.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes (default: one for each core); 0: this process alone.")
    ] = None,
    cluster: Cluster = "",
) -> None:
    """Run every combination of a study's axes, several at a time, and write tables and figures about them."""
    from lmm4rec.experiments.study.study import study

    if status:
        _show_status(conf, settings, out)
        return
    if dry_run:
        _show_estimates(conf, settings, out, workers)
        return
    result = study(conf, overrides(settings), out=out or None, resume=resume, workers=workers, cluster=cluster)
    for stage, failure in result.folder.failures().items():
        console.print(f"[red]failed[/]   {stage}: {failure['error']}: {escaped(failure['message'])}", soft_wrap=True)
    cells = len(result.done) + len(result.failed)
    console.print(f"done     {len(result.done)} of {cells} cells in {result.folder.path}")
    if not result.done:
        sys.exit(1)
    report_command([result.folder.path], result.folder.report)
    if result.folder.remote:
        result.folder.remote.copy()
        console.print(f"copied   {out}", soft_wrap=True)
    if result.failed:
        sys.exit(1)


@studies.command("tune", rich_help_panel=_PANEL)
def tune_command(
    conf: Conf, settings: Settings = None, out: Out = None, workers: Workers = 0, cluster: Cluster = ""
) -> None:
    """Search hyper-parameters of a conf file with a \\[search] table on its validation part; continues a search."""
    from lmm4rec.core.errors import ConfigError
    from lmm4rec.core.files import storage_errors
    from lmm4rec.experiments.conf.spec import load_spec
    from lmm4rec.experiments.demo import program
    from lmm4rec.experiments.search.tune import split_conf, tune

    name, tables, options = split_conf(conf)
    spec, folder = load_spec(tables, overrides(settings)), out or Path("runs") / f"{name}-search"
    if cluster and not cluster.startswith("local:") and not options.storage:
        raise ConfigError(
            'on a cluster the settings lie in a database that all machines reach: add storage = "postgresql://…" (or '
            "mysql) to [search]; a SQLite file in a shared folder is damaged by several machines"
        )
    with storage_errors(folder), requested_pool(workers, cluster, shared=[folder]) as pool:
        result = tune({"title": spec.title, **spec.tables}, options, folder, pool=pool)
    for key, value in result.best.items():
        console.print(f"{key} = {value!r}")
    console.print(f"validation {result.value:.4f}, the best of {result.trials} settings")
    console.print(f"run      {program()} run {quoted(result.conf)}", soft_wrap=True)


@studies.command("report", rich_help_panel=_PANEL)
def report_command(
    folders: Annotated[
        list[Path], typer.Argument(metavar="DIR...", help="A study folder, or run folders.", parser=local_path)
    ],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Default: DIR/report.", parser=local_path)
    ] = None,
    against: Annotated[str, typer.Option(help="The design to compare with (default: the best by validation).")] = "",
) -> None:
    """Write tables, significance tests, figures and a page about a study or about any finished runs."""
    from lmm4rec.experiments.report.study_report import write_study_report

    folder = out or (folders[0] / "report" if len(folders) == 1 else Path("runs") / "report")
    page = write_study_report(folders, folder, reference=against)
    console.print((folder / "tables" / "results.md").read_text(encoding="utf-8"), markup=False, soft_wrap=True)
    console.print(f"report   {page}")
    console.print(f"tables   {folder / 'tables'}  figures {folder / 'figures'}  data {folder / 'data'}", soft_wrap=True)


@studies.command("reproduce", rich_help_panel=_PANEL)
def reproduce_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.", parser=local_path)],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Default: a new RUN-again.", parser=local_path)
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, help="The largest difference of a metric that is accepted.")
    ] = 1e-6,
) -> None:
    """Run a finished run again and compare metrics, split and environment. The exit status is 1 where they differ."""
    from lmm4rec.experiments.reproduce import reproduce

    result = reproduce(run, out=out, tolerance=tolerance)
    for name, (before, now) in result.changed.items():
        console.print(f"changed  {name}: {escaped(before)} then, {escaped(now)} now")
    if not result.same_split:
        console.print("[red]differs[/]  the split: other users, items or interactions in its parts")
    for difference in result.differences[:10]:
        console.print(f"[red]differs[/]  {difference.name}: {difference.before:.6f} then, {difference.now:.6f} now")
    verdict = "[green]the same[/]" if result.succeeded else "[red]not the same[/]"
    same = result.compared - len(result.differences)
    console.print(
        f"{verdict}: {same} of {result.compared} metrics within {result.tolerance:g}, the largest difference is "
        f"{result.largest:.2g}; written to {result.out}",
        soft_wrap=True,
    )
    if not result.succeeded:
        sys.exit(1)


def _show_status(conf: Path, settings: Sequence[str] | None, out: str) -> None:
    from lmm4rec.experiments.report.number_formats import metric_name, seconds
    from lmm4rec.experiments.study.cells import make_cells
    from lmm4rec.experiments.study.folder import study_folder
    from lmm4rec.experiments.study.progress import study_progress
    from lmm4rec.experiments.study.spec import load_study

    spec = load_study(conf, overrides(settings))
    cells = study_progress(spec, make_cells(spec), study_folder(spec.name, out))
    table = Table(
        "cell", "", metric_name(spec.options.metric) + ", valid", "time", "", title=spec.title, title_justify="left"
    )
    for cell in cells:
        table.add_row(
            cell.cell.name,
            f"[{_COLORS[cell.state]}]{cell.state}[/]",
            "" if cell.value is None else f"{cell.value:.4f}",
            seconds(cell.seconds) if cell.seconds else "",
            escaped(cell.message),
        )
    console.print(table)
    console.print(", ".join(f"{sum(cell.state == name for cell in cells)} {name}" for name in _COLORS))


def _show_estimates(conf: Path, settings: Sequence[str] | None, out: str, workers: int | None) -> None:
    from lmm4rec.experiments.estimate.study import StudyEstimates
    from lmm4rec.experiments.report.number_formats import seconds
    from lmm4rec.experiments.study.cells import make_cells
    from lmm4rec.experiments.study.folder import study_folder
    from lmm4rec.experiments.study.progress import seconds_by_design, study_progress
    from lmm4rec.experiments.study.spec import load_study
    from lmm4rec.experiments.study.study import worker_count

    spec = load_study(conf, overrides(settings))
    cells = make_cells(spec)
    progress = study_progress(spec, cells, study_folder(spec.name, out))
    estimates = StudyEstimates(spec, seconds_by_design(progress))
    count = worker_count(spec, cells) if workers is None else max(1, workers)
    table = Table("cell", "", "run", "search", title=spec.title, title_justify="left")
    total, searched = 0.0, set[str]()
    for cell in progress:
        run_s, search_s, measured = _expected(cell, estimates, searched)
        total += run_s + search_s
        # an upper bound, except for the passes of an encoder in training
        sign = "" if measured else "> " if cell.cell.plan.features.train == "end2end" else "≤ "
        run_time = "done" if cell.state == "done" else sign + seconds(run_s)
        table.add_row(cell.cell.name, cell.state, run_time, f"≤ {seconds(search_s)}" if search_s else "")
    console.print(table)
    console.print(
        f"{len(cells)} cells; at most about {seconds(total / count)} by {count} workers ({seconds(total)} of one). "
        "Early stopping ends runs sooner. Encoding and fine-tuning encoders comes on top, once for each data set and "
        "encoder; so does the encoder's part of training end to end (`lmm4rec run --dry-run` estimates it).",
        soft_wrap=True,
    )


def _expected(cell: CellProgress, estimates: StudyEstimates, searched: set[str]) -> tuple[float, float, bool]:
    """Seconds of the cell's run, of its design's search (for its first cell), and whether the first were measured."""
    if cell.state == "done":
        searched.add(cell.cell.design_name)
        return 0.0, 0.0, True
    run_s, measured = estimates.cell(cell.cell).seconds, estimates.is_measured(cell.cell)
    search_s = 0.0 if cell.cell.design_name in searched else estimates.search(cell.cell).seconds
    searched.add(cell.cell.design_name)
    return run_s, search_s, measured
