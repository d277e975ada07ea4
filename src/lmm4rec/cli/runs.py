"""Commands that train and measure: run, compare, demo; and what to start from: example, models."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lmm4rec.cli import completion
from lmm4rec.cli.console import console, print_facts, quoted
from lmm4rec.cli.options import Conf, DryRun, Processes, RemoteOut, RunsFolder, Settings, local_path, overrides, plan_of
from lmm4rec.cli.processes import command_arguments, run_or_exit

if TYPE_CHECKING:
    from lmm4rec.experiments.result import Result

runs = typer.Typer(rich_markup_mode="rich")


@runs.command("run")
def run_command(
    conf: Conf,
    settings: Settings = None,
    out: RemoteOut = "",
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run that was interrupted.")] = False,
    processes: Processes = 1,
    start_from: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="RUN", help="Start with the weights of this run (train.start_from).", parser=local_path
        ),
    ] = None,
    final: Annotated[
        Path | None,
        typer.Option(
            "--final",
            metavar="RUN",
            help="Train on everything, for the epochs that this run chose.",
            parser=local_path,
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Train and measure the model that a conf file describes."""
    from lmm4rec.experiments.build.sharding import shares_training
    from lmm4rec.experiments.demo import program
    from lmm4rec.experiments.estimate.run import estimate_run
    from lmm4rec.experiments.final_training import final_overrides
    from lmm4rec.experiments.run import run
    from lmm4rec.training.interruption import sigterm_as_interrupt

    keys = final_overrides(final, plan_of(conf, settings)) if final else {}
    keys |= {"train.start_from": str(start_from)} if start_from else {}
    settings = [*(f"{key}={json.dumps(value)}" for key, value in keys.items()), *(settings or [])]
    if dry_run:
        estimate = estimate_run(conf, overrides(settings))
        print_facts(estimate.facts(), f"{estimate.what}: what it takes at most")
        return
    if processes > 1 and shares_training(plan_of(conf, settings), processes):
        _run_in_processes(processes, conf, settings, out, resume)
        return
    with sigterm_as_interrupt():
        result = run(conf, overrides(settings), out=out or None, resume=resume)
    if os.environ.get("RANK", "0") != "0":  # of several processes, the first one prints
        return
    folder = result.folder.path
    console.print(results_table([result], [result.plan.recommender.label], result.plan.title))
    console.print(f"report   {folder / 'report.html'}")
    if out and result.folder.remote:
        console.print(f"copied   {out}", soft_wrap=True)
    console.print(f"try      {program()} recommend {quoted(folder, result.bundle().users[0])}", soft_wrap=True)
    console.print(f"look     {program()} serve {quoted(folder)}", soft_wrap=True)


@runs.command("compare")
def compare_command(
    confs: Annotated[
        list[Path],
        typer.Argument(
            metavar="CONF...", help="The .conf files to compare.", autocompletion=completion.confs, parser=local_path
        ),
    ],
    settings: Settings = None,
    out: RunsFolder = Path("runs/compare"),
) -> None:
    """Run several conf files on the same data and write one report about them."""
    from lmm4rec.experiments.compare import ComparedRun, compare
    from lmm4rec.experiments.report.sentences import one_seed_note

    entries = [ComparedRun(conf.stem, conf, overrides(settings)) for conf in confs]
    results = compare(entries, out, title="Comparison")
    console.print(results_table(results, [entry.label for entry in entries], "Comparison"))
    console.print(one_seed_note(sorted({result.plan.train.seed for result in results})), soft_wrap=True)
    console.print(f"report   {out / 'report.html'}")


@runs.command("demo")
def demo_command(out: RunsFolder = Path("runs/demo")) -> None:
    """Train and compare eight models on the built-in toy shop: one table, one report with images."""
    from lmm4rec.experiments.demo import demo, next_steps

    entries, results = demo(out)
    console.print(results_table(results, [entry.label for entry in entries], "The toy shop, test part"))
    console.print(f"\nLook at   [bold]{out / 'report.html'}[/]\n\nNext:")
    for command in next_steps(out):
        console.print(f"  {command}", soft_wrap=True)


@runs.command("example")
def example_command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet.", parser=local_path)
    ] = Path("my_shop"),
) -> None:
    """Write the toy shop as tables and images, with a conf file that reads it: a template for your own data."""
    from lmm4rec.experiments.demo import program
    from lmm4rec.experiments.example_shop import write_example

    conf = write_example(folder)
    console.print(f"wrote {folder}/items.csv, interactions.csv and images/, and {conf}")
    console.print(f"look     {program()} doctor {quoted(conf)}", soft_wrap=True)
    console.print(f"run      {program()} run {quoted(conf)}", soft_wrap=True)


@runs.command("models")
def models_command(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="One of them, in full.", autocompletion=completion.models),
    ] = None,
) -> None:
    """List the encoders, recommenders and data sources that a conf file can name, or one of them with all its keys."""
    from lmm4rec.cli.models import show_models

    show_models(console, name)


def results_table(results: Sequence[Result], labels: Sequence[str], title: str) -> Table:
    """The table of results, as wide as the console allows; the best value of each test metric is bold.

    Columns that no run measured are not in it, nor, where the console is too narrow, the less important ones.
    """
    from lmm4rec.experiments.report.number_formats import companion, metric_name

    metric = results[0].measured.metric
    valid = f"valid {metric_name(metric)}"

    def quality(name: str, part: str) -> list[str]:
        values = [getattr(result.measured, part).get(name) for result in results]
        best = max((value for value in values if value is not None), default=None)
        bold = len(results) > 1 and part == "test"
        cells = ["–" if value is None else f"{value:.4f}" for value in values]
        return [f"[bold]{cell}[/]" if bold and v == best else cell for v, cell in zip(values, cells, strict=True)]

    columns = {
        "model": list(labels),
        "features": [r.plan.encoder_label if r.plan.recommender.reads_content else "none" for r in results],
        metric_name(metric): quality(metric, "test"),
        metric_name(companion(metric)): quality(companion(metric), "test"),
        valid: quality(metric, "valid"),
        "epochs": [str(result.measured.chosen.epochs) for result in results],
        "seconds": [f"{result.measured.cost['seconds']:.1f}" for result in results],
        "peak MB": [f"{result.measured.cost['peak_memory_mb']:,.0f}" for result in results],
        "parameters": [f"{result.measured.cost['parameters']:,}" for result in results],
    }
    columns = {name: cells for name, cells in columns.items() if set(cells) != {"–"}}  # what no run measured
    sparable = [name for name in ("peak MB", valid, "parameters", "epochs", "seconds") if name in columns]
    for left_out in range(len(sparable) + 1):
        spare = sparable[:left_out]
        table = _table({name: cells for name, cells in columns.items() if name not in spare}, title)
        if spare:
            table.caption = f"not shown here: {', '.join(spare)}; the report has all"
        if console.measure(table, options=console.options.update(width=1000)).maximum <= console.width:
            break
    return table


def _table(columns: Mapping[str, Sequence[str]], title: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for name in columns:
        names = name in ("model", "features")
        table.add_column(name, justify="left" if names else "right", overflow="fold", no_wrap=not names)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _run_in_processes(processes: int, conf: Path, settings: Sequence[str], out: str, resume: bool) -> None:
    """Run in several processes on this machine.

    Raises:
        ConfigError: the conf is wrong or the folder taken; raised once, before any process starts.
    """
    from lmm4rec.experiments.folder import folder_of

    folder = folder_of(plan_of(conf, settings), out or None, resume=resume)
    arguments = command_arguments("run", conf, settings, out or folder.path)

    def command(is_restart: bool) -> list[str]:
        resumes = resume or (is_restart and folder.experiment.exists())
        return [*arguments, "--resume"] if resumes else arguments

    run_or_exit(command, processes)
