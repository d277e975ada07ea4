"""The command `encode`: fill the feature store from a conf file, list it, verify it, prune it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from lmm4rec.cli import completion
from lmm4rec.cli.console import console
from lmm4rec.cli.options import Cluster, Settings, Workers, local_path, plan_of, requested_pool
from lmm4rec.core.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from lmm4rec.features.store_inventory import StoredFolder

features = typer.Typer(rich_markup_mode="rich")

_DAY_S = 24 * 3600.0
_DIGITS = 12  # of a key that are shown
_LISTED = 20  # broken images


@features.command("encode")
def encode_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[CONF|KEY]",
            help="A .conf file; for --verify and --prune the start of a key.",
            autocompletion=completion.confs,
        ),
    ] = "",
    settings: Settings = None,
    strict: Annotated[bool, typer.Option("--strict", help="Stop at an image that cannot be read.")] = False,
    workers: Workers = 0,
    cluster: Cluster = "",
    show: Annotated[bool, typer.Option("--list", help="List the content of the feature store.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare stored vectors with their checksums.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Remove entries from the feature store.")] = False,
    older_than: Annotated[float, typer.Option(metavar="DAYS", min=0, help="With --prune: only older entries.")] = 0,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="With --prune: only unfinished entries.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="With --prune: do not ask.")] = False,
) -> None:
    """Encode a conf file's catalog into the feature store, without training; or list, verify or prune the store."""
    if sum([show, verify, prune]) > 1:
        raise typer.BadParameter("choose one of --list, --verify and --prune")
    if show:
        _list_store()
    elif verify:
        _verify_store(what)
    elif prune:
        _prune_store(what, older_than_days=older_than, unfinished=unfinished, confirmed=yes)
    elif what:
        _encode_catalog(local_path(what), settings or [], strict=strict, workers=workers, cluster=cluster)
    else:
        raise typer.BadParameter("name a conf file, or choose one of --list, --verify and --prune")


def _encode_catalog(conf: Path, settings: Sequence[str], *, strict: bool, workers: int, cluster: str) -> None:
    from lmm4rec.experiments.build.data import DataCache
    from lmm4rec.experiments.build.features import load_features
    from lmm4rec.experiments.checks import require_stores
    from lmm4rec.features.store import FeatureStore

    plan = plan_of(conf, settings, {"features.strict": True} if strict else {})
    if plan.encoder is None or plan.encoder.is_precomputed:
        raise ConfigError(f"{conf} names no encoder: add an [encoder] table, or -s encoder.name=NAME (lmm4rec models)")
    if (workers or cluster) and plan.features.train != "frozen":
        raise ConfigError(
            f"features.train = '{plan.features.train}' trains the encoder, which one process does: leave out --workers "
            "and --cluster"
        )
    require_stores(plan)
    catalog = DataCache().dataset(plan).catalog
    with requested_pool(workers, cluster, shared=FeatureStore().shared) as pool:
        content = load_features(plan, catalog, pool=pool)
    for modality, rows in content.features.items():
        missing = int((~rows.any(dim=1)).sum())
        console.print(f"{modality}: {rows.shape[0]:,} items × {rows.shape[1]}, {missing:,} without {modality}")
    cost, broken = content.cost, content.encoding["broken_images"]
    console.print(f"{cost['items_encoded']:,} items encoded, {cost['items_reused']:,} reused")
    if broken:
        more = f" and {len(broken) - _LISTED:,} more" if len(broken) > _LISTED else ""
        console.print(f"broken images: {', '.join(broken[:_LISTED])}{more}", markup=False, soft_wrap=True)


def _list_store() -> None:
    from lmm4rec.features.state_files import states_folder
    from lmm4rec.features.store import FeatureStore
    from lmm4rec.features.store_inventory import stored_features, stored_states

    store = FeatureStore()
    folders = stored_features(store) + stored_states(states_folder())
    if not folders:
        console.print(f"the feature store {store.root} is empty")
        return
    table = Table("key", "encoder", title=f"The feature store {store.root}", title_justify="left")
    for column in ("items", "vectors", "precision", "on disk", "age", "state"):
        table.add_column(column, justify="right")
    for folder in folders:
        identity = folder.identity
        parts = f"unfinished, {folder.parts} parts" if folder.parts else "nothing to read"
        table.add_row(
            folder.key[:_DIGITS],
            identity.encoder if identity else "?",
            f"{folder.items:,}",
            ", ".join(f"{modality} {dim}" for modality, dim in identity.dims.items()) if identity else "?",
            identity.precision if identity else "?",
            _size(folder.size),
            _age(folder.age_s),
            "whole" if folder.finished else parts,
        )
    console.print(table)
    console.print(f"{_size(sum(folder.size for folder in folders))} in all")


def _verify_store(prefix: str) -> None:
    """Print which entries are damaged; the exit status is 1 where one is."""
    from lmm4rec.features.store import FeatureStore
    from lmm4rec.features.store_inventory import select_folders, stored_features

    store, damaged = FeatureStore(), 0
    for folder in _require_any(select_folders(stored_features(store), prefix=prefix), prefix):
        if not folder.finished and folder.parts:
            continue
        try:
            store.verify(folder.key)
            console.print(f"{folder.key[:_DIGITS]}  good")
        except CheckpointError as error:
            damaged += 1
            console.print(f"{folder.key[:_DIGITS]}  {error}", style="red", markup=False, soft_wrap=True)
    if damaged:
        console.print("the next run encodes damaged entries again; --prune KEY removes them")
        sys.exit(1)


def _prune_store(prefix: str, *, older_than_days: float, unfinished: bool, confirmed: bool) -> None:
    from lmm4rec.features.state_files import states_folder
    from lmm4rec.features.store import FeatureStore
    from lmm4rec.features.store_inventory import select_folders, stored_features, stored_states

    store, states = FeatureStore(), states_folder()
    folders = stored_features(store) + stored_states(states)
    folders = select_folders(folders, prefix=prefix, older_than_s=older_than_days * _DAY_S, unfinished=unfinished)
    folders = _require_any(folders, prefix)
    if not folders:
        console.print("nothing to remove")
        return
    everything = not (prefix or older_than_days or unfinished)
    count = f"{len(folders)} {'entry' if len(folders) == 1 else 'entries'}"
    what = f"{count}, {_size(sum(folder.size for folder in folders))}"
    if everything and not confirmed:
        typer.confirm(f"remove all entries of {store.root} and {states} ({what})?", abort=True)
    for root in (store.root, states):  # keys are digests: none is in both
        FeatureStore(root).prune(folder.key for folder in folders)
    for folder in folders:
        encoder = folder.identity.encoder if folder.identity else "?"
        console.print(f"{folder.key[:_DIGITS]}  {encoder}, {folder.items:,} items")
    console.print(f"removed {what}")


def _require_any(folders: list[StoredFolder], prefix: str) -> list[StoredFolder]:
    if prefix and not folders:
        raise ConfigError(
            f"no entry of the feature store has a key that begins with '{prefix}' (lmm4rec encode --list)"
        )
    return folders


def _size(count: int) -> str:
    """A number of bytes with its unit."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _age(seconds: float) -> str:
    """A past time with its unit."""
    for unit, length in (("d", _DAY_S), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
