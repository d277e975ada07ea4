"""Commands that use a trained model: similar, search, explain, export, serve."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer
from rich.table import Table

from lmm4rec.cli import completion
from lmm4rec.cli.console import console, escaped
from lmm4rec.cli.options import Count, TrainedModel, local_path, trained_model
from lmm4rec.cli.recommend import at_most_the_catalog
from lmm4rec.core.errors import ConfigError

if TYPE_CHECKING:
    from lmm4rec.serving.answers import Recommendation

bundles = typer.Typer(rich_markup_mode="rich")

_PANEL = "Use a trained model"
_SHORTEST_TOKEN = 16


@bundles.command("similar", rich_help_panel=_PANEL)
def similar_command(
    run: TrainedModel,
    items: Annotated[
        list[str], typer.Argument(metavar="ITEM...", help="Item ids; those that begin with '-' after --.")
    ],
    k: Count = 10,
) -> None:
    """Show the most similar items of each given item."""
    from lmm4rec.serving.bundle import Bundle

    bundle = Bundle.load(run)
    for item, similar in bundle.similar(items, at_most_the_catalog(k, bundle)).items():
        console.print(_table(similar, f"similar to {item}"))


@bundles.command("search", rich_help_panel=_PANEL)
def search_command(
    run: TrainedModel,
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="What to look for, in quotes.")] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Look for items similar to this image.", parser=local_path)
    ] = None,
    user: Annotated[str | None, typer.Option("--for", metavar="USER", help="Re-rank by this user's scores.")] = None,
    k: Count = 10,
) -> None:
    """Find items by text or by an image."""
    from lmm4rec.data.images import ImageFile
    from lmm4rec.serving.bundle import Bundle

    if text is None and image is None:
        raise ConfigError("say what to look for: a text in quotes, --image FILE, or both")
    bundle = Bundle.load(run)
    k = at_most_the_catalog(k, bundle)
    items = bundle.search(text, None if image is None else ImageFile(image), k, for_user=user)
    query = " and ".join(part for part in (text and f'"{text}"', image and image.name) if part)
    console.print(_table(items, query + (f" for {user}" if user else "")))


@bundles.command("explain", rich_help_panel=_PANEL)
def explain_command(
    run: TrainedModel,
    user: Annotated[str, typer.Argument(metavar="USER")],
    item: Annotated[str, typer.Argument(metavar="ITEM")],
) -> None:
    """Explain the score of an item for a user: its parts, and the most similar items of the user."""
    from lmm4rec.serving.bundle import Bundle

    bundle = Bundle.load(run)
    score, parts, nearest = bundle.explain(user, item)
    console.print(f"{bundle.title(item)} ({item}) has the score {score:.4f} for {user}", markup=False)
    table = Table("part", "gives", "", title="the score by parts", title_justify="left")
    table.columns[1].justify = "right"
    widest = max(map(abs, parts.values()), default=0.0) or 1.0
    for part, share in parts.items():
        table.add_row(part, f"{share:+.4f}", ("█" if share >= 0 else "░") * round(20 * abs(share) / widest))
    console.print(table)
    console.print(_table(nearest, f"the most similar items of {user}", score="similarity"))


@bundles.command("export", rich_help_panel=_PANEL)
def export_command(
    run: TrainedModel,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder for the bundle.", parser=local_path)],
    copy_encoder: Annotated[
        bool, typer.Option("--encoder/--no-encoder", help="Whether to copy the encoder's weights.")
    ] = True,
    thumbnails: Annotated[int, typer.Option(min=0, metavar="N", help="Thumbnails of this many items.")] = 5000,
    form: Annotated[
        str,
        typer.Option(
            "--as", metavar="FORMAT", help="bundle; or vectors: parquet, faiss; or weights, of models without vectors."
        ),
    ] = "bundle",
    index: Annotated[
        str, typer.Option(metavar="KIND", help="With --as faiss: exact, or approximate: hnsw, ivf.")
    ] = "exact",
) -> None:
    """Write a run's bundle to a folder of its own, for another machine; or its vectors, for other tools."""
    if form != "bundle":
        _export_vectors(run, folder, form, index)
        return
    from lmm4rec.experiments.build.bundle import export

    bundle = export(run, folder, copy_encoder=copy_encoder, thumbnails=thumbnails)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    console.print(f"wrote {folder}: {len(bundle.users):,} users, {len(bundle.items):,} items, {size / 2**20:.1f} MiB")


def _export_vectors(run: Path, folder: Path, form: str, index: str) -> None:
    from lmm4rec.serving.bundle import Bundle
    from lmm4rec.serving.http.settings import IndexKind
    from lmm4rec.serving.vector_files import VectorFormat

    if form not in get_args(VectorFormat):
        raise ConfigError(f"--as is bundle, {', '.join(get_args(VectorFormat))}, got '{form}'")
    if index not in get_args(IndexKind):
        raise ConfigError(f"--index is {' or '.join(get_args(IndexKind))}, got '{index}'")
    facts = Bundle.load(run).export_vectors(folder, cast(VectorFormat, form), index=cast(IndexKind, index))
    what = f"{facts['weights']:,} weights" if form == "weights" else f"vectors of {facts['dim']} numbers"
    console.print(f"wrote {folder}: {facts['users']:,} users, {facts['items']:,} items, {what}", soft_wrap=True)


@bundles.command("push", rich_help_panel=_PANEL)
def push_command(
    run: TrainedModel,
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="The repository, created where needed.")],
    copy_encoder: Annotated[
        bool, typer.Option("--encoder/--no-encoder", help="Whether to upload the encoder's weights.")
    ] = True,
    private: Annotated[bool, typer.Option("--private/--public", help="Who may read a new repository.")] = True,
) -> None:
    """Upload a run's bundle with its model card to the Hugging Face hub (HF_TOKEN); `recommend OWNER/NAME` reads it."""
    from lmm4rec.serving.bundle import Bundle

    url = Bundle.load(run).push_to_hub(repository, private=private, copy_encoder=copy_encoder)
    console.print(f"pushed   {url}", soft_wrap=True)


@bundles.command("serve", rich_help_panel=_PANEL)
def serve_command(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Run folders, also s3://, gs://, az://; the first answers by default.",
            autocompletion=completion.trained,
            parser=trained_model,
        ),
    ],
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535)] = 8000,
    token_env: Annotated[
        str | None,
        typer.Option(
            "--token-env", metavar="NAME", help="The environment variable with the token for adding and deleting."
        ),
    ] = None,
    allow_hosts: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A host name to accept beside the address; *: any."),
    ] = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            "--rules",
            metavar="FILE",
            help="A TOML file of rule sets, which requests choose by name.",
            parser=local_path,
        ),
    ] = None,
    root_path: Annotated[
        str, typer.Option("--root-path", metavar="/PATH", help="The path under which a proxy shows the service.")
    ] = "",
    log_format: Annotated[
        str, typer.Option("--log-format", metavar="KIND", help="text, or json: JSON lines, one for each request.")
    ] = "text",
    index: Annotated[
        str, typer.Option("--index", metavar="KIND", help="exact, or for large catalogs hnsw or ivf (approximate).")
    ] = "exact",
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, metavar="N", help="Processes; each loads the bundles.")
    ] = 1,
) -> None:
    """Serve runs over HTTP, with a web page: users, items, search, new items."""
    from lmm4rec.core.errors import optional

    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        optional(module, extra="serve", purpose="lmm4rec serve")
    gc.disable()  # while modules are imported and bundles are loaded: the start takes a fifth less
    try:
        _serve(runs, host, port, token_env, allow_hosts, index, rules, workers, root_path, log_format)
    finally:
        gc.enable()


def _serve(
    runs: Sequence[Path],
    host: str,
    port: int,
    token_env: str | None,
    allow_hosts: Sequence[str] | None,
    index: str,
    rules: Path | None,
    workers: int,
    root_path: str,
    log_format: str,
) -> None:
    from lmm4rec.cli.rule_files import read_rule_sets
    from lmm4rec.serving.http.logs import use_json_lines
    from lmm4rec.serving.http.server import serve
    from lmm4rec.serving.http.settings import IndexKind, Settings

    if index not in get_args(IndexKind):
        raise ConfigError(f"--index is {' or '.join(get_args(IndexKind))}, got '{index}'")
    if log_format not in ("text", "json"):
        raise ConfigError(f"--log-format is text or json, got '{log_format}'")
    settings = Settings(
        host=host,
        port=port,
        token=_token(token_env),
        hosts=tuple(allow_hosts or ()),
        index=cast(IndexKind, index),
        rules=partial(read_rule_sets, rules) if rules is not None else dict,
        root_path=root_path,
        json_logs=log_format == "json",
    )
    if settings.json_logs:
        use_json_lines()
    serve(
        runs,
        settings,
        workers=workers,
        started=lambda url: console.print(f"Open [bold]{url}[/]  (Ctrl+C stops)", soft_wrap=True),
    )


def _table(items: Sequence[Recommendation], title: str, *, score: str = "score") -> Table:
    table = Table("", "item", "title", score, title=escaped(title), title_justify="left")
    for rank, item in enumerate(items, start=1):
        table.add_row(str(rank), escaped(item.item), escaped(item.title), f"{item.score:.3f}")
    return table


def _token(name: str | None) -> str | None:
    """The token in the environment variable of this name."""
    if name is None:
        return None
    token = os.environ.get(name, "")
    if len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"the environment variable {name} has to hold the token, {_SHORTEST_TOKEN} or more ASCII characters, no "
            f'spaces; export {name}="$(openssl rand -hex 24)" creates one'
        )
    return token
