"""What `lmm4rec data` does: files in, files out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lmm4rec.cli.commands import console, overrides
from lmm4rec.core.errors import ConfigError
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.export import write_mmrec
from lmm4rec.data.filters import prepare
from lmm4rec.data.sources.amazon.editions import EDITIONS, EditionName
from lmm4rec.data.sources.amazon.fetching import DownloadOptions, fetch_files, fetch_images
from lmm4rec.data.sources.amazon.source import load
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import make_plan


@dataclass(frozen=True)
class Wanted:
    """What is to be fetched: the files of a category, and the images of a catalog that is read from them."""

    category: str
    edition: EditionName
    folder: Path
    images: str
    catalog: Callable[[], Catalog]


def of_conf(conf: Path, settings: Sequence[str]) -> Wanted:
    """What a conf file's data set needs: images of the items that its filters leave.

    Raises:
        ConfigError: its data is not of this kind.
    """
    plan = make_plan(load_spec(conf, overrides(settings)))
    data = plan.data.table
    if plan.data.name != "amazon":
        raise ConfigError(f"{conf} reads data of '{plan.data.name}'; what can be fetched is that of 'amazon'")
    if "reviews" in data or "metadata" in data:
        raise ConfigError(
            f"{conf} names files of its own in [data] (reviews, metadata); only published ones are fetched"
        )
    return Wanted(
        data["category"],
        data["edition"],
        Path(data["path"]),
        data["images"],
        lambda: DataCache().dataset(plan).catalog,
    )


def of_category(category: str, edition: str, folder: Path, k_core: int) -> Wanted:
    """A category as a whole, with the images of its k-core."""
    chosen: EditionName = EDITIONS[edition].name
    return Wanted(
        category,
        chosen,
        folder,
        "images",
        lambda: prepare(load(path=folder, category=category, edition=chosen, early_core=k_core), k_core=k_core).catalog,
    )


def fetch(
    wanted: Wanted,
    options: DownloadOptions,
    reviews_url: str | None,
    meta_url: str | None,
    images_url: str | None,
    *,
    images: bool,
) -> None:
    """`lmm4rec data download`."""
    files = fetch_files(
        wanted.category, wanted.edition, wanted.folder, options, reviews_url=reviews_url, meta_url=meta_url
    )
    for outcome in files:
        console.print(f"fetched  {wanted.folder / outcome.file}  {outcome.size:,} bytes", soft_wrap=True)
    if not files:
        console.print(f"{wanted.folder} has the reviews and the metadata")
    if not images:
        return
    catalog = wanted.catalog()
    folder = wanted.folder / wanted.images
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


def export(conf: Path, settings: Sequence[str], folder: Path, name: str | None) -> None:
    """`lmm4rec data export`."""
    plan = make_plan(load_spec(conf, overrides(settings)))
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
