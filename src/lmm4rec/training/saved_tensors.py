"""Saved tensors of a training: one safetensors file, or an index of files that each hold a part of large tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.files import read_json, write_json
from lmm4rec.core.tensor_files import read_tensors, save_tensors
from lmm4rec.distributed import process_group

_AGAIN = "delete it to train from the start"


def index_of(path: Path) -> Path:
    """The index that stands in place of the file `path` where the tensors are saved in parts."""
    return path.with_suffix(".index.json")


def is_saved(path: Path) -> bool:
    """Whether there are saved tensors, in one file or in parts."""
    return path.exists() or index_of(path).exists()


def save_whole(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write the tensors into one file; a kill leaves what was saved before, or this."""
    save_tensors(path, tensors, {"facts": json.dumps(facts)})
    index_of(path).unlink(missing_ok=True)
    _remove_parts(path)


def save_parts(
    path: Path,
    tensors: Mapping[str, Tensor],
    facts: Mapping[str, Any],
    bounds: Mapping[str, list[int]],
    *,
    version: int,
) -> None:
    """Write tensors into a file of each process, and an index; a kill leaves what was saved before, or this.

    `bounds` say of the tables, by name, which rows each process has; the other tensors are the same in all and written
    by the first one. Each `version` has files of its own, and the last step makes the new index that of `path`.
    """
    files = [path.with_name(f"{path.stem}-{version}-{p + 1}-of-{process_group.world_size()}{path.suffix}")
             for p in range(process_group.world_size())]  # fmt: skip
    own = {name: tensor for name, tensor in tensors.items() if process_group.is_first() or name in bounds}
    save_tensors(files[process_group.rank()], own)
    process_group.barrier()
    if process_group.is_first():
        names = [file.name for file in files]
        write_json(index_of(path), {"files": names, "rows": dict(bounds), "facts": dict(facts)})
        path.unlink(missing_ok=True)
        _remove_parts(path, keep=names)


def read_saved(path: Path, rows: Mapping[str, slice] | None = None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The saved tensors and facts, by whichever number of processes they were saved; of a table in `rows` these rows.

    Raises:
        CheckpointError: a file is missing, damaged, or holds something else.
    """
    rows, index = rows or {}, index_of(path)
    if not index.exists():
        tensors, facts = _read_whole(path)
        return {name: tensor[rows[name]].clone() if name in rows else tensor for name, tensor in tensors.items()}, facts
    try:
        listed = read_json(index)
        files, bounds, facts = listed["files"], listed["rows"], listed["facts"]
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{index} is damaged ({error}); {_AGAIN}") from None
    found: dict[str, list[Tensor]] = {}
    for number, file in enumerate(files):
        for name, tensor in _read(path.with_name(file))[0].items():
            chosen = rows.get(name, slice(0, None))
            if name in bounds:
                start, stop = bounds[name][number : number + 2]
                first, last = max(chosen.start, start), min(stop if chosen.stop is None else chosen.stop, stop)
                tensor = tensor[max(first - start, 0) : max(last - start, 0)].clone()  # noqa: PLW2901 - the part of it
            found.setdefault(name, []).append(tensor)
    return {name: parts[0] if len(parts) == 1 else torch.cat(parts) for name, parts in found.items()}, facts


def _read_whole(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, metadata = _read(path)
    try:
        return tensors, json.loads(metadata["facts"])
    except (KeyError, json.JSONDecodeError):
        raise CheckpointError(f"{path} holds no state of a training; {_AGAIN}") from None


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        return read_tensors(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {_AGAIN}") from error


def _remove_parts(path: Path, keep: Sequence[str] = ()) -> None:
    for part in path.parent.glob(f"{path.stem}-*-of-*{path.suffix}"):
        if part.name not in keep:
            part.unlink(missing_ok=True)
