"""What the feature store holds, for people: what it is, how large and how old."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.files import read_json
from lmm4rec.features.state_files import INDEX
from lmm4rec.features.store import FeatureStore, Made

__all__ = ["Held", "held", "held_states", "pick"]


@dataclass(frozen=True)
class Held:
    """One folder of the store."""

    key: str
    made: Made | None  # None: nothing in it can be read
    items: int  # those that are done
    parts: int  # finished parts of an extraction that is under way or was killed
    finished: bool
    size: int  # bytes on disk
    age_s: float  # since the last change


def held(store: FeatureStore) -> list[Held]:
    """All folders of the store, the oldest first; damaged ones are logged."""
    entries = {entry.key: entry for entry in store.entries()}
    found = []
    for folder in store.root.glob("*/"):
        entry, parts = entries.get(folder.name), store.parts(folder.name)
        made = entry or next((made for made, _ in parts), None)
        items = entry.items if entry else sum(items for _, items in parts)
        size, age_s = _measure(folder)
        found.append(Held(folder.name, made, items, len(parts), entry is not None, size, age_s))
    return sorted(found, key=lambda one: -one.age_s)


def held_states(root: Path) -> list[Held]:
    """All caches of states in a folder, the oldest first."""
    found = []
    for folder in root.glob("*/"):
        made, items = _made_states(folder)
        size, age_s = _measure(folder)
        shards = len(list(folder.glob("shard-*")))
        found.append(Held(folder.name, made, items, shards, made is not None, size, age_s))
    return sorted(found, key=lambda one: -one.age_s)


def _made_states(folder: Path) -> tuple[Made | None, int]:
    """What the index of a cache of states says, and of how many items; None where it is not there or damaged."""
    try:
        facts = read_json(folder / INDEX)
        return Made(facts["encoder"], "", facts["stored"], facts["widths"]), facts["items"]
    except (CheckpointError, KeyError):
        return None, 0


def _measure(folder: Path) -> tuple[int, float]:
    """Bytes, and seconds since the last change."""
    status = [path.stat() for path in folder.iterdir() if path.exists()]
    changed = max((one.st_mtime for one in status), default=0.0)
    return sum(one.st_size for one in status), max(0.0, time.time() - changed)


def pick(
    all_held: Sequence[Held], *, prefix: str = "", older_than_s: float = 0.0, unfinished: bool = False
) -> list[Held]:
    """Those whose key begins so, that are at least so old and, where asked for, that are not finished."""
    return [
        one
        for one in all_held
        if one.key.startswith(prefix) and one.age_s >= older_than_s and not (unfinished and one.finished)
    ]
