"""The commands that use what was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PANEL = "Use what was trained"
using = typer.Typer(rich_markup_mode="rich")

Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder, or a bundle.")]
Count = Annotated[int, typer.Option("-k", min=1, help="How many items.")]


@using.command("recommend", rich_help_panel=PANEL)
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


@using.command("similar", rich_help_panel=PANEL)
def similar_command(
    run: Run, items: Annotated[list[str], typer.Argument(metavar="ITEM...", help="Item ids.")], k: Count = 10
) -> None:
    """Show the items that are most like the given ones."""
    from lmm4rec.cli.serving import similar_items

    similar_items(run, items, k)


@using.command("search", rich_help_panel=PANEL)
def search_command(
    run: Run,
    words: Annotated[str | None, typer.Argument(metavar="[WORDS]", help="What to look for, in quotes.")] = None,
    image: Annotated[Path | None, typer.Option(metavar="FILE", help="Look for what is like this image.")] = None,
    user: Annotated[str | None, typer.Option("--for", metavar="USER", help="What suits this user first.")] = None,
    k: Count = 10,
) -> None:
    """Find items by words or by an image."""
    from lmm4rec.cli.serving import search_items

    search_items(run, words, image, k, user)


@using.command("explain", rich_help_panel=PANEL)
def explain_command(
    run: Run,
    user: Annotated[str, typer.Argument(metavar="USER")],
    item: Annotated[str, typer.Argument(metavar="ITEM")],
) -> None:
    """Say why an item has its score for a user."""
    from lmm4rec.cli.serving import explain_item

    explain_item(run, user, item)


@using.command("export", rich_help_panel=PANEL)
def export_command(
    run: Run,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where the bundle goes.")],
    copy_encoder: Annotated[
        bool, typer.Option("--encoder/--no-encoder", help="Whether the encoder's weights come along.")
    ] = True,
    thumbnails: Annotated[int, typer.Option(min=0, metavar="N", help="Small images of this many items.")] = 5000,
) -> None:
    """Write a run's bundle to a folder of its own, ready for another machine."""
    from lmm4rec.cli.serving import export_bundle

    export_bundle(run, folder, copy_encoder=copy_encoder, thumbnails=thumbnails)


@using.command("serve", rich_help_panel=PANEL)
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


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
