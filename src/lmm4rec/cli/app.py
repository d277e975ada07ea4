"""The command `lmm4rec`: one thin function a command."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lmm4rec.cli.data import data_app
from lmm4rec.cli.options import Conf, Out, Resume, Settings
from lmm4rec.cli.studying import studying
from lmm4rec.cli.using import using
from lmm4rec.core.errors import LMM4RecError

app = typer.Typer(
    name="lmm4rec",
    help="Multi-modal recommendation with large multi-modal encoders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

Processes = Annotated[
    int, typer.Option("--processes", metavar="N", min=1, help="Train in so many processes (GPUs, or shares of cores).")
]


DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Say what it will take (passes, hours, memory, disk), and stop.")
]


@app.command("run")
def run_command(
    conf: Conf,
    settings: Settings = None,
    out: Out = None,
    resume: Resume = False,
    processes: Processes = 1,
    dry_run: DryRun = False,
) -> None:
    """Train and measure what a conf file describes."""
    if dry_run:
        from lmm4rec.cli.commands import estimate_conf

        estimate_conf(conf, settings or [])
        return
    if processes > 1:
        from lmm4rec.cli.processes import run_in_processes

        run_in_processes(processes, conf, settings or [], out, resume)
        return
    from lmm4rec.cli.commands import run_conf

    run_conf(conf, settings or [], out, resume)


@app.command("compare")
def compare_command(
    confs: Annotated[list[Path], typer.Argument(metavar="CONF...", help="The .conf files to compare.")],
    settings: Settings = None,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the runs go.")] = Path("runs/compare"),
) -> None:
    """Run several conf files on the same data and write one report about them."""
    from lmm4rec.cli.commands import compare_confs

    compare_confs(confs, settings or [], out)


@app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where the runs go.")] = Path("runs/demo"),
) -> None:
    """Run the main job on the built-in toy shop: six models, one table, one page of images."""
    from lmm4rec.cli.commands import run_demo

    run_demo(out)


@app.command("doctor")
def doctor_command(conf: Conf, settings: Settings = None) -> None:
    """Report what is odd about a conf file's data set, without training."""
    from lmm4rec.cli.commands import examine_data

    examine_data(conf, settings or [])


@app.command("encode")
def encode_command(
    what: Annotated[
        str, typer.Argument(metavar="[CONF|KEY]", help="A .conf file; for --verify and --prune the start of a key.")
    ] = "",
    settings: Settings = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at an image that cannot be read.")] = False,
    show: Annotated[bool, typer.Option("--list", help="List what the feature store holds.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare stored vectors with their checksums.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove from the feature store.")] = False,
    older_than: Annotated[float, typer.Option(metavar="DAYS", min=0, help="With --prune: only what is older.")] = 0,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="With --prune: only what was never finished.")
    ] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="With --prune: do not ask.")] = False,
) -> None:
    """Encode a conf file's catalog into the feature store, without training; or look after the store."""
    from lmm4rec.cli import features

    if sum([show, verify, prune]) > 1:
        raise typer.BadParameter("choose one of --list, --verify and --prune")
    if show:
        features.list_store()
    elif verify:
        features.verify_store(what)
    elif prune:
        features.prune_store(what, older_than_days=older_than, unfinished=unfinished, sure=yes)
    elif what:
        features.encode_catalog(Path(what), settings or [], strict=strict)
    else:
        raise typer.BadParameter("name a conf file, or choose one of --list, --verify and --prune")


@app.command("finetune")
def finetune_command(
    conf: Conf,
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="Where to put the tuned encoder (default: cache).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it will take, and stop.")] = False,
) -> None:
    """Tune a conf file's encoder on its catalog's pairs of image and words; \\[features.finetune] holds the keys."""
    from lmm4rec.cli.finetune import finetune_conf

    finetune_conf(conf, settings or [], out, dry_run=dry_run)


@app.command("example")
def example_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet.")] = Path("my_shop"),
) -> None:
    """Write the toy shop as tables and images, with a conf that reads it: a pattern for your own."""
    from lmm4rec.cli.commands import write_shop

    write_shop(folder)


@app.command("models")
def models_command(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="One of them, in full.")] = None,
) -> None:
    """List the encoders, recommenders and data sources that a conf file can name, or one of them with every key."""
    from lmm4rec.cli.commands import list_models

    list_models(name)


app.add_typer(using)
app.add_typer(studying)
app.add_typer(data_app, name="data")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error that the user can mend is one message, not a traceback."""
    first = os.environ.get("RANK", "0") == "0"  # of several processes one talks
    logging.basicConfig(level=logging.INFO if first else logging.ERROR, format="%(message)s")
    for noisy in ("httpx", "urllib3", "transformers", "sentence_transformers", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")  # theirs are of every file read and written
    try:
        app(arguments, prog_name="lmm4rec")
    except LMM4RecError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; the same command goes on, a run with --resume")
        sys.exit(130)


def _plain(error: Exception) -> str:
    return str(error).replace("[", r"\[")


if __name__ == "__main__":  # as torchrun starts it
    main()
