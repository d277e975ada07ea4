"""What `lmm4rec encode` does: fill the feature store, and look after it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.table import Table

from lmm4rec.cli.commands import console, overrides
from lmm4rec.core.errors import CheckpointError, ConfigError
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import make_plan
from lmm4rec.features.state_files import states_folder
from lmm4rec.features.store import FeatureStore
from lmm4rec.features.store_inventory import StoredFolder, select_folders, stored_features, stored_states

_DAY_S = 24 * 3600.0
_DIGITS = 12  # of a key that are shown
_LISTED = 20  # broken images


def encode_catalog(conf: Path, settings: Sequence[str], *, strict: bool = False) -> None:
    """`lmm4rec encode CONF`."""
    plan = make_plan(load_spec(conf, overrides(settings) | ({"features.strict": True} if strict else {})))
    if plan.encoder is None or plan.encoder.is_precomputed:
        raise ConfigError(f"{conf} names no encoder: add an [encoder] table, or -s encoder.name=NAME (lmm4rec models)")
    content = load_features(plan, DataCache().dataset(plan).catalog)
    for modality, rows in content.features.items():
        missing = int((~rows.any(dim=1)).sum())
        console.print(f"{modality}: {rows.shape[0]:,} items × {rows.shape[1]}, {missing:,} without {modality}")
    cost, broken = content.cost, content.encoding["broken_images"]
    console.print(f"{cost['items_encoded']:,} items encoded, {cost['items_reused']:,} reused")
    if broken:
        more = f" and {len(broken) - _LISTED:,} more" if len(broken) > _LISTED else ""
        console.print(f"broken images: {', '.join(broken[:_LISTED])}{more}", markup=False, soft_wrap=True)


def list_store() -> None:
    """`lmm4rec encode --list`."""
    store = FeatureStore()
    found = stored_features(store) + stored_states(states_folder())
    if not found:
        console.print(f"the feature store {store.root} is empty")
        return
    table = Table("key", "encoder", title=f"The feature store {store.root}", title_justify="left")
    for column in ("items", "vectors", "precision", "on disk", "age", "state"):
        table.add_column(column, justify="right")
    for one in found:
        identity = one.identity
        table.add_row(
            one.key[:_DIGITS],
            identity.encoder if identity else "?",
            f"{one.items:,}",
            ", ".join(f"{modality} {dim}" for modality, dim in identity.dims.items()) if identity else "?",
            identity.precision if identity else "?",
            size(one.size),
            age(one.age_s),
            "whole" if one.finished else f"unfinished, {one.parts} parts" if one.parts else "nothing to read",
        )
    console.print(table)
    console.print(f"{size(sum(one.size for one in found))} in all")


def verify_store(prefix: str) -> None:
    """`lmm4rec encode --verify`; the exit status is 1 where an entry is damaged."""
    store, damaged = FeatureStore(), 0
    for one in _chosen(select_folders(stored_features(store), prefix=prefix), prefix):
        if not one.finished and one.parts:
            continue
        try:
            store.verify(one.key)
            console.print(f"{one.key[:_DIGITS]}  good")
        except CheckpointError as error:
            damaged += 1
            console.print(f"{one.key[:_DIGITS]}  {error}", style="red", markup=False, soft_wrap=True)
    if damaged:
        console.print("the next run encodes damaged ones anew; --prune KEY removes them")
        sys.exit(1)


def prune_store(prefix: str, *, older_than_days: float, unfinished: bool, sure: bool) -> None:
    """`lmm4rec encode --prune`."""
    store, states = FeatureStore(), states_folder()
    found = stored_features(store) + stored_states(states)
    found = select_folders(found, prefix=prefix, older_than_s=older_than_days * _DAY_S, unfinished=unfinished)
    found = _chosen(found, prefix)
    if not found:
        console.print("nothing to remove")
        return
    everything = not (prefix or older_than_days or unfinished)
    what = f"{len(found)} {'entry' if len(found) == 1 else 'entries'}, {size(sum(one.size for one in found))}"
    if everything and not sure:
        typer.confirm(f"remove all that {store.root} and {states} hold ({what})?", abort=True)
    for root in (store.root, states):  # keys are digests: none is in both
        FeatureStore(root).prune(one.key for one in found)
    for one in found:
        console.print(f"{one.key[:_DIGITS]}  {one.identity.encoder if one.identity else '?'}, {one.items:,} items")
    console.print(f"removed {what}")


def _chosen(found: list[StoredFolder], prefix: str) -> list[StoredFolder]:
    if prefix and not found:
        raise ConfigError(
            f"no entry of the feature store has a key that begins with '{prefix}' (lmm4rec encode --list)"
        )
    return found


def size(count: int) -> str:
    """A number of bytes in the unit that suits it."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def age(seconds: float) -> str:
    """A time that has passed, in the unit that suits it."""
    for unit, length in (("d", _DAY_S), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
