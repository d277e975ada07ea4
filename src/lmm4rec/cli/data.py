"""`lmm4rec data`: fetch data sets, and write them for other toolboxes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(help="Fetch data sets, and write them for other toolboxes.", no_args_is_help=True)

_Url = Annotated[str | None, typer.Option(metavar="URL", help="Another base address than the published one.")]
_Settings = Annotated[list[str] | None, typer.Option("-s", "--set", metavar="KEY=VALUE", help="Override a key.")]


class EditionChoice(StrEnum):
    """The editions of the Amazon review data."""

    y2014 = "2014"
    y2018 = "2018"
    y2023 = "2023"


class Layout(StrEnum):
    """The layouts that can be written."""

    mmrec = "mmrec"


@data_app.command("download")
def download_command(
    conf: Annotated[
        Path | None, typer.Argument(metavar="[CONF]", help="A .conf file whose data is amazon; else --category.")
    ] = None,
    settings: _Settings = None,
    category: Annotated[str | None, typer.Option(metavar="NAME", help="Such as Baby, as the files spell it.")] = None,
    edition: Annotated[EditionChoice, typer.Option(help="Of the Amazon review data.")] = EditionChoice.y2014,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Where the files go.")] = None,
    k_core: Annotated[int, typer.Option(min=0, help="Without CONF: images of this core's items; 0: of all.")] = 5,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Fetch the items' images too.")] = True,
    reviews_url: _Url = None,
    meta_url: _Url = None,
    images_url: Annotated[
        str | None, typer.Option(metavar="URL", help="A mirror that takes the place of the images' own hosts.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Files at a time.")] = 4,
    per_second: Annotated[float, typer.Option(min=0.01, help="Requests a second, from all workers.")] = 10.0,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="Seconds that a server may be silent.")] = 30.0,
    attempts: Annotated[int, typer.Option(min=1, help="Times that a file is tried.")] = 5,
    max_image_mb: Annotated[float, typer.Option(min=0.001, help="The largest image.")] = 10.0,
    verify: Annotated[bool, typer.Option("--verify", help="Compare what is there with its checksum.")] = False,
    allow_private: Annotated[
        list[str] | None,
        typer.Option(metavar="ADDRESS", help="A private address or network that may be fetched from (10.0.0.0/8)."),
    ] = None,
) -> None:
    """Fetch the reviews, metadata and images of Amazon review data; what is there already is left alone."""
    from lmm4rec.cli import transfer
    from lmm4rec.data.sources.amazon.fetching import DownloadOptions

    options = DownloadOptions(
        workers=workers,
        per_second=per_second,
        timeout_s=timeout_s,
        attempts=attempts,
        max_image_mb=max_image_mb,
        verify=verify,
        allow_private=tuple(allow_private or ()),
    )
    if (conf is None) == (category is None):
        raise typer.BadParameter("name a conf file, or --category with --out")
    if conf is not None and out is not None:
        raise typer.BadParameter("the conf file's data.path says where the files go; leave --out")
    if conf is not None:
        wanted = transfer.of_conf(conf, settings or [])
    elif out is not None and category is not None:
        wanted = transfer.of_category(category, edition.value, out, k_core)
    else:
        raise typer.BadParameter("--category needs --out, the folder where the files go")
    transfer.fetch(wanted, options, reviews_url, meta_url, images_url, images=images)


@data_app.command("export")
def export_command(
    conf: Annotated[Path, typer.Argument(metavar="CONF", help="A .conf file (TOML).")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to write.")],
    settings: _Settings = None,
    layout: Annotated[Layout, typer.Option(help="Which toolbox reads it.")] = Layout.mmrec,
    name: Annotated[str | None, typer.Option(help="What the log is called; not given: as the folder.")] = None,
) -> None:
    """Write a conf file's split data and features in the layout of another toolbox."""
    from lmm4rec.cli import transfer

    transfer.export(conf, settings or [], folder, name)
