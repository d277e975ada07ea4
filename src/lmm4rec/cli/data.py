"""Commands on data: doctor, and `lmm4rec data`, which fetches data sets and writes them for other toolboxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmm4rec.cli.console import console, escaped, print_facts
from lmm4rec.cli.options import Conf, Settings, local_path, plan_of
from lmm4rec.core.errors import ConfigError, LMM4RecError

if TYPE_CHECKING:
    from lmm4rec.data.catalog import Catalog
    from lmm4rec.data.download.folders import DownloadOptions
    from lmm4rec.data.sources.amazon.editions import EditionName

doctor = typer.Typer(rich_markup_mode="rich")
data = typer.Typer(help="Fetch data sets, and write them for other toolboxes.", no_args_is_help=True)

_COLORS = {"error": "red", "warning": "yellow", "note": "dim"}
_Url = Annotated[str | None, typer.Option(metavar="URL", help="Another base address than the published one.")]


class EditionChoice(StrEnum):
    """The editions of the Amazon review data."""

    y2014 = "2014"
    y2018 = "2018"
    y2023 = "2023"


class Layout(StrEnum):
    """The layouts that can be written."""

    mmrec = "mmrec"


@doctor.command("doctor")
def doctor_command(conf: Conf, settings: Settings = None) -> None:
    """Report what is odd about a conf file's data set, without training; status 1 where a run would stop."""
    from lmm4rec.data.doctor import describe, examine
    from lmm4rec.experiments.build.data import DataCache
    from lmm4rec.experiments.checks import problems, require_features

    plan = plan_of(conf, settings)
    cache = DataCache()
    dataset = cache.dataset(plan)
    facts = describe(dataset)
    print_facts({name: f"{x:,}" if isinstance(x, int) else str(x) for name, x in facts.items()}, dataset.name)
    findings = dict.fromkeys(examine(dataset))
    stopping: list[LMM4RecError] = []
    try:
        split = cache.split(plan)
        findings |= dict.fromkeys(split.findings)
        stopping = list(problems(plan, split))
        if not stopping:
            require_features(plan, dataset.catalog)
    except LMM4RecError as error:
        stopping = [error]
    for problem in stopping:
        console.print(f"[red]{'error':8}[/]{escaped(str(problem))}")
    for finding in sorted(findings, key=lambda finding: list(_COLORS).index(finding.level)):
        console.print(f"[{_COLORS[finding.level]}]{finding.level:8}[/]{escaped(finding.message)}")
        for example in finding.examples[:5]:
            console.print(f"          {example}", markup=False, soft_wrap=True)
    if stopping:
        raise typer.Exit(1)


@data.command("download")
def download_command(
    conf: Annotated[
        Path | None,
        typer.Argument(metavar="[CONF]", help="A .conf file whose data is amazon; else --category.", parser=local_path),
    ] = None,
    settings: Settings = None,
    category: Annotated[str | None, typer.Option(metavar="NAME", help="Such as Baby, as the files spell it.")] = None,
    edition: Annotated[EditionChoice, typer.Option(help="Of the Amazon review data.")] = EditionChoice.y2014,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", metavar="DIR", help="The folder for the files.", parser=local_path)
    ] = None,
    k_core: Annotated[int, typer.Option(min=0, help="Without CONF: images of this core's items; 0: of all.")] = 5,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Fetch the items' images, too.")] = True,
    reviews_url: _Url = None,
    meta_url: _Url = None,
    images_url: Annotated[
        str | None, typer.Option(metavar="URL", help="A mirror to use in the place of the images' own hosts.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=32, help="Files at a time.")] = 4,
    per_second: Annotated[float, typer.Option(min=0.01, help="Requests a second, of all workers together.")] = 10.0,
    timeout_s: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for a silent server.")] = 30.0,
    attempts: Annotated[int, typer.Option(min=1, help="Attempts for each file.")] = 5,
    max_image_mb: Annotated[float, typer.Option(min=0.001, help="The largest image.")] = 10.0,
    verify: Annotated[bool, typer.Option("--verify", help="Compare files that exist with their checksums.")] = False,
    allow_private: Annotated[
        list[str] | None, typer.Option(metavar="ADDRESS", help="A private address or network to allow (10.0.0.0/8).")
    ] = None,
) -> None:
    """Fetch the reviews, metadata and images of Amazon review data; files that exist are kept."""
    from lmm4rec.data.download.folders import DownloadOptions

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
        raise typer.BadParameter("the conf file's data.path names the folder for the files; leave out --out")
    if conf is not None:
        download = _download_of_conf(conf, settings or [])
    elif out is not None and category is not None:
        download = _download_of_category(category, edition.value, out, k_core)
    else:
        raise typer.BadParameter("--category needs --out, the folder for the files")
    _fetch_files(download, options, reviews_url, meta_url)
    if images:
        _fetch_images(download, options, images_url)


@data.command("export")
def export_command(
    conf: Conf,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to write.", parser=local_path)],
    settings: Settings = None,
    layout: Annotated[Layout, typer.Option(help="The toolbox that reads it.")] = Layout.mmrec,
    name: Annotated[str | None, typer.Option(help="The name of the log (default: that of the folder).")] = None,
) -> None:
    """Write a conf file's split data and features in the layout of another toolbox."""
    from lmm4rec.data.export import write_mmrec
    from lmm4rec.experiments.build.data import DataCache
    from lmm4rec.experiments.build.features import load_features

    plan = plan_of(conf, settings)
    split = DataCache().split(plan)
    features = load_features(plan, split.dataset.catalog).features
    rows = {modality: matrix.cpu().numpy() for modality, matrix in features.items()}
    findings = write_mmrec(split, rows, folder, name=name or folder.resolve().name)
    parts = ", ".join(f"{len(getattr(split, part)):,} {part}" for part in ("train", "valid", "test"))
    console.print(f"wrote {folder}: {split.dataset.n_users:,} users, {split.dataset.n_items:,} items; {parts}")
    for modality, matrix in rows.items():
        console.print(f"  {modality}_feat.npy  {matrix.shape[0]:,} × {matrix.shape[1]}")
    if not rows:
        console.print("  no features: the conf names no [encoder]", markup=False)
    for finding in findings:
        console.print(str(finding), markup=False, soft_wrap=True)


@dataclass(frozen=True)
class _Download:
    """The files of a category to fetch, and the images of a catalog that is read from them."""

    category: str
    edition: EditionName
    folder: Path
    images: str
    catalog: Callable[[], Catalog]


def _download_of_conf(conf: Path, settings: Sequence[str]) -> _Download:
    """The files of a conf file's data set, and the images of the items that its filters leave."""
    from lmm4rec.experiments.build.data import DataCache

    plan = plan_of(conf, settings)
    table = plan.data.table
    if plan.data.name != "amazon":
        raise ConfigError(f"{conf} reads data of '{plan.data.name}'; only that of 'amazon' can be fetched")
    if "reviews" in table or "metadata" in table:
        raise ConfigError(f"{conf} names its own files in [data] (reviews, metadata); only published ones are fetched")
    return _Download(
        table["category"],
        table["edition"],
        Path(table["path"]),
        table["images"],
        lambda: DataCache().dataset(plan).catalog,
    )


def _download_of_category(category: str, edition: str, folder: Path, k_core: int) -> _Download:
    """All files of a category, and the images of its k-core."""
    from lmm4rec.data.filters import prepare
    from lmm4rec.data.sources.amazon.editions import EDITIONS
    from lmm4rec.data.sources.amazon.source import load

    name: EditionName = EDITIONS[edition].name

    def catalog() -> Catalog:
        return prepare(load(path=folder, category=category, edition=name, early_core=k_core), k_core=k_core).catalog

    return _Download(category, name, folder, "images", catalog)


def _fetch_files(download: _Download, options: DownloadOptions, reviews_url: str | None, meta_url: str | None) -> None:
    from lmm4rec.data.sources.amazon.fetching import fetch_files

    folder = download.folder
    files = fetch_files(
        download.category, download.edition, folder, options, reviews_url=reviews_url, meta_url=meta_url
    )
    for outcome in files:
        console.print(f"fetched  {folder / outcome.file}  {outcome.size:,} bytes", soft_wrap=True)
    if not files:
        console.print(f"{folder} has the reviews and the metadata")


def _fetch_images(download: _Download, options: DownloadOptions, images_url: str | None) -> None:
    from lmm4rec.data.sources.amazon.fetching import fetch_images

    catalog, folder = download.catalog(), download.folder / download.images
    outcomes = fetch_images(catalog, folder, options, images_url=images_url)
    failed = [outcome for outcome in outcomes if outcome.status == "failed"]
    addressed = sum(map(bool, catalog.image_urls))
    console.print(
        f"images of {len(catalog):,} items: {len(outcomes) - len(failed):,} fetched, "
        f"{addressed - len(outcomes):,} already there, {len(failed):,} failed, "
        f"{len(catalog) - addressed:,} without an address"
    )
    if failed:
        errors = Counter(outcome.error.partition(":")[0] for outcome in failed)
        for error, count in errors.most_common(8):
            console.print(f"  {count:,} × {error}", markup=False, soft_wrap=True)
        console.print(f"listed in {folder / 'downloads.json'}; the same command tries them again", soft_wrap=True)
