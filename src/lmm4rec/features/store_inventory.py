"""The inventory of the feature store and of the caches of states: what is in each folder, its size and its age."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.files import read_json
from lmm4rec.features.state_files import INDEX
from lmm4rec.features.store import FeatureStore
from lmm4rec.features.stored_rows import EncoderIdentity


@dataclass(frozen=True)
class StoredFolder:
    """One folder of the store."""

    key: str
    identity: EncoderIdentity | None  # None: nothing in it can be read
    items: int  # encoded so far
    parts: int  # finished parts of an extraction that is under way or was killed
    finished: bool
    size: int  # bytes on disk
    age_s: float  # since the last change


def stored_features(store: FeatureStore) -> list[StoredFolder]:
    """All folders of the store, the oldest first; damaged ones are logged."""
    entries = {entry.key: entry for entry in store.entries()}
    folders = []
    for folder in store.root.glob("*/"):
        entry, parts = entries.get(folder.name), store.parts(folder.name)
        identity = entry or next((identity for identity, _ in parts), None)
        items = entry.items if entry else sum(items for _, items in parts)
        size, age_s = _measure(folder)
        folders.append(StoredFolder(folder.name, identity, items, len(parts), entry is not None, size, age_s))
    return sorted(folders, key=lambda one: -one.age_s)


def stored_states(root: Path) -> list[StoredFolder]:
    """All caches of states in a folder, the oldest first."""
    folders = []
    for folder in root.glob("*/"):
        identity, items = _described_states(folder)
        size, age_s = _measure(folder)
        shards = len(list(folder.glob("shard-*")))
        folders.append(StoredFolder(folder.name, identity, items, shards, identity is not None, size, age_s))
    return sorted(folders, key=lambda one: -one.age_s)


def _described_states(folder: Path) -> tuple[EncoderIdentity | None, int]:
    """The encoder in the index of a cache of states, and its number of items; None where it is absent or damaged."""
    try:
        facts = read_json(folder / INDEX)
        return EncoderIdentity(facts["encoder"], "", facts["stored"], facts["widths"]), facts["items"]
    except (CheckpointError, KeyError):
        return None, 0


def _measure(folder: Path) -> tuple[int, float]:
    """Bytes, and seconds since the last change."""
    status = [path.stat() for path in folder.iterdir() if path.exists()]
    changed = max((one.st_mtime for one in status), default=0.0)
    return sum(one.st_size for one in status), max(0.0, time.time() - changed)


def select_folders(
    folders: Sequence[StoredFolder], *, prefix: str = "", older_than_s: float = 0.0, unfinished: bool = False
) -> list[StoredFolder]:
    """The folders whose key has a prefix, that are old enough and, with `unfinished`, that are not finished."""
    return [
        one
        for one in folders
        if one.key.startswith(prefix) and one.age_s >= older_than_s and not (unfinished and one.finished)
    ]
