"""The commands of studies: many runs, searched, compared, reported and repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmm4rec.cli.options import Conf, Out, Settings

PANEL = "Compare many runs"
studying = typer.Typer(rich_markup_mode="rich")


@studying.command("study", rich_help_panel=PANEL)
def study_command(
    conf: Annotated[Path, typer.Argument(metavar="CONF", help="A .conf file with [axes].")],
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Default: runs/NAME.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a study, or join one from another machine.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show where its cells stand, and do nothing.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and their time, and do nothing.")] = False,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes (default: one a core); 0 works in this one.")
    ] = None,
) -> None:
    """Run every combination of a study's axes, several at a time, and write tables and figures about them."""
    from lmm4rec.cli import studies

    if status:
        studies.show_status(conf, settings or [], out)
    elif dry_run:
        studies.dry_run(conf, settings or [], out, workers)
    else:
        studies.run_study(conf, settings or [], out, resume=resume, workers=workers)


@studying.command("tune", rich_help_panel=PANEL)
def tune_command(conf: Conf, settings: Settings = None, out: Out = None) -> None:
    """Search the settings of a conf file with a \\[search] table by its validation part; goes on where it stopped."""
    from lmm4rec.cli.studies import tune_conf

    tune_conf(conf, settings or [], out)


@studying.command("report", rich_help_panel=PANEL)
def report_command(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="A study folder, or run folders.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Default: DIR/report.")] = None,
    against: Annotated[str, typer.Option(help="The design to compare with (default: the best by validation).")] = "",
) -> None:
    """Write tables, tests, figures and a page about a study or about any finished runs."""
    from lmm4rec.cli.studies import report

    report(folders, out, against)


@studying.command("reproduce", rich_help_panel=PANEL)
def reproduce_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Default: RUN-again.")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="The largest difference of a metric that is none.")] = 1e-6,
) -> None:
    """Run a finished run again and compare: metrics, split, environment. Exit status 1 where it is not the same."""
    from lmm4rec.cli.studies import reproduce_run

    reproduce_run(run, out, tolerance)
