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
from lmm4rec.core.errors import LMM4RecError

app = typer.Typer(
    name="lmm4rec",
    help="Multi-modal recommendation with large multi-modal encoders.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(data_app, name="data")

Conf = Annotated[Path, typer.Argument(metavar="CONF", help="A .conf file (TOML).")]
Settings = Annotated[
    list[str] | None, typer.Option("-s", "--set", metavar="KEY=VALUE", help="Override a key, e.g. -s train.epochs=5.")
]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="The run folder (default: runs/NAME).")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with a run that was interrupted.")]

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
    """Run the main job on the built-in toy shop: six models, one table, one page of pictures."""
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
    strict: Annotated[bool, typer.Option("--strict", help="Stop at a picture that cannot be read.")] = False,
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
    """Tune a conf file's encoder on its catalog's pairs of picture and words; \\[features.finetune] holds the keys."""
    from lmm4rec.cli.finetune import finetune_conf

    finetune_conf(conf, settings or [], out, dry_run=dry_run)


Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a bundle.")]
Count = Annotated[int, typer.Option("-k", min=1, help="How many items.")]


@app.command("recommend")
def recommend_command(
    run: Run,
    users: Annotated[list[str] | None, typer.Argument(metavar="[USER...]", help="User ids.")] = None,
    k: Count = 10,
    everyone: Annotated[bool, typer.Option("--all", help="For all users; needs --out.")] = False,
    history: Annotated[
        str, typer.Option(metavar="ITEM,ITEM", help="For a person the model has never seen, by what they like.")
    ] = "",
    only: Annotated[str, typer.Option(metavar="ITEM,ITEM", help="Give nothing but these items.")] = "",
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="FILE", help="Write a Parquet file.")] = None,
    seen_too: Annotated[bool, typer.Option("--seen-too", help="Also what the user has already.")] = False,
) -> None:
    """Recommend items to users from a finished run."""
    from lmm4rec.cli.serving import recommend_items

    listed = {"history": _listed(history), "only": _listed(only)}
    recommend_items(run, users or [], k, everyone=everyone, out=out, seen_too=seen_too, **listed)


@app.command("similar")
def similar_command(
    run: Run, items: Annotated[list[str], typer.Argument(metavar="ITEM...", help="Item ids.")], k: Count = 10
) -> None:
    """Show the items that are most like the given ones."""
    from lmm4rec.cli.serving import similar_items

    similar_items(run, items, k)


@app.command("search")
def search_command(
    run: Run,
    words: Annotated[str | None, typer.Argument(metavar="[WORDS]", help="What to look for, in quotes.")] = None,
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="Look for what is like this picture.")] = None,
    user: Annotated[str | None, typer.Option("--for", metavar="USER", help="What suits this user first.")] = None,
    k: Count = 10,
) -> None:
    """Find items by words or by a picture."""
    from lmm4rec.cli.serving import search_items

    search_items(run, words, image, k, user)


@app.command("explain")
def explain_command(
    run: Run,
    user: Annotated[str, typer.Argument(metavar="USER")],
    item: Annotated[str, typer.Argument(metavar="ITEM")],
) -> None:
    """Say why an item has its score for a user."""
    from lmm4rec.cli.serving import explain_item

    explain_item(run, user, item)


@app.command("export")
def export_command(
    run: Run,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the bundle goes.")],
    copy_encoder: Annotated[
        bool, typer.Option("--encoder/--no-encoder", help="Whether the encoder's weights come along.")
    ] = True,
    thumbnails: Annotated[int, typer.Option(min=0, metavar="N", help="Small pictures of this many items.")] = 5000,
) -> None:
    """Write a run's bundle to a folder of its own, ready for another machine."""
    from lmm4rec.cli.serving import export_bundle

    export_bundle(run, folder, copy_encoder=copy_encoder, thumbnails=thumbnails)


@app.command("serve")
def serve_command(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders; the first one answers by default.")
    ],
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Where to listen.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8000,
    token_env: Annotated[
        str | None,
        typer.Option("--token-env", metavar="NAME", help="The environment variable with the token that writing needs."),
    ] = None,
    allow_hosts: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host", metavar="NAME", help="A host name to answer to beside the address itself; *: any."
        ),
    ] = None,
    index: Annotated[
        str, typer.Option("--index", metavar="KIND", help="exact, or for large catalogs hnsw or ivf (approximate).")
    ] = "exact",
) -> None:
    """Serve finished runs over HTTP, with a page to look at them: users, items, search, new items."""
    from lmm4rec.cli.serve import serve_runs

    serve_runs(runs, host=host, port=port, token_env=token_env, hosts=allow_hosts or [], index=index)


@app.command("study")
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


@app.command("tune")
def tune_command(conf: Conf, settings: Settings = None, out: Out = None) -> None:
    """Search the settings of a conf file with a [search] table by its validation part; goes on where it stopped."""
    from lmm4rec.cli.studies import tune_conf

    tune_conf(conf, settings or [], out)


@app.command("report")
def report_command(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="A study folder, or run folders.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Default: DIR/report.")] = None,
    against: Annotated[str, typer.Option(help="The design to compare with (default: the best by validation).")] = "",
) -> None:
    """Write tables, tests, figures and a page about a study or about any finished runs."""
    from lmm4rec.cli.studies import report

    report(folders, out, against)


@app.command("reproduce")
def reproduce_command(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")],
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Default: RUN-again.")] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="The largest difference of a metric that is none.")] = 1e-6,
) -> None:
    """Run a finished run again and compare: metrics, split, environment. Exit status 1 where it is not the same."""
    from lmm4rec.cli.studies import reproduce_run

    reproduce_run(run, out, tolerance)


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


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; an error that the user can mend is one message, not a traceback."""
    first = os.environ.get("RANK", "0") == "0"  # of several processes one talks
    logging.basicConfig(level=logging.INFO if first else logging.ERROR, format="%(message)s")
    for noisy in ("httpx", "urllib3", "transformers", "sentence_transformers", "matplotlib"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        app(arguments, prog_name="lmm4rec")
    except LMM4RecError as error:
        Console(stderr=True).print(f"[bold red]error:[/] {_plain(error)}", highlight=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; the same command goes on, a run with --resume")
        sys.exit(130)


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _plain(error: Exception) -> str:
    return str(error).replace("[", r"\[")


if __name__ == "__main__":  # as torchrun starts it
    main()
