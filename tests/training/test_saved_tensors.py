"""Tensors saved in parts are those that were saved whole, for any number of processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from lmm4rec.core.errors import CheckpointError
from lmm4rec.distributed import process_group, sharding
from lmm4rec.training.saved_tensors import index_of, is_saved, read_saved, save_parts, save_whole

ROWS = 11


def tensors(version: int) -> dict[str, Tensor]:
    table = torch.arange(3.0 * ROWS).view(ROWS, 3) + 100 * version
    return {"table": table, "bias": torch.tensor([1.0 * version])}


def save_as(path: Path, processes: int, version: int, monkeypatch: pytest.MonkeyPatch, last: int = 0) -> None:
    """Save as that number of processes would, each in turn and the first one last; `last` > 0: killed before that."""
    with monkeypatch.context() as changed:
        changed.setattr(process_group, "world_size", lambda: processes)
        changed.setattr(process_group, "barrier", lambda: None)
        bounds = sharding.equal_bounds(ROWS)
        for rank in range(processes - 1, last - 1, -1):
            changed.setattr(process_group, "rank", lambda rank=rank: rank)
            own = {**tensors(version), "table": tensors(version)["table"][bounds[rank] : bounds[rank + 1]]}
            save_parts(path, own, {"version": version}, {"table": bounds}, version=version)


def check(path: Path, version: int) -> None:
    """All rows, and every range of rows, are those of a version."""
    want = tensors(version)
    for start in range(ROWS):
        for stop in range(start, ROWS + 1):
            found, facts = read_saved(path, {"table": slice(start, stop)})
            assert torch.equal(found["table"], want["table"][start:stop])
    found, facts = read_saved(path)
    assert found.keys() == want.keys()
    assert all(torch.equal(found[name], want[name]) for name in want)
    assert facts == {"version": version}


@pytest.mark.long
@pytest.mark.parametrize("processes", [2, 3, 12])
def test_parts_are_read_by_any_ranges(tmp_path: Path, processes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 12 processes the last has no row."""
    path = tmp_path / "state.safetensors"
    assert not is_saved(path)
    save_as(path, processes, 1, monkeypatch)
    assert is_saved(path)
    check(path, 1)


@pytest.mark.long
def test_a_kill_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    save_whole(path, tensors(1), {"version": 1})
    save_as(path, 3, 2, monkeypatch, last=1)  # the first has written nothing
    check(path, 1)
    save_as(path, 3, 2, monkeypatch)
    check(path, 2)
    assert {file.name for file in tmp_path.iterdir()} == {
        "state.index.json", *(f"state-2-{number}-of-3.safetensors" for number in (1, 2, 3))
    }  # fmt: skip
    save_as(path, 2, 3, monkeypatch, last=1)
    check(path, 2)
    save_as(path, 2, 3, monkeypatch)
    check(path, 3)
    assert len(list(tmp_path.iterdir())) == 3
    save_whole(path, tensors(4), {"version": 4})
    check(path, 4)
    assert list(tmp_path.iterdir()) == [path]


def test_damage_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.safetensors"
    save_as(path, 2, 1, monkeypatch)
    part = tmp_path / "state-1-2-of-2.safetensors"
    data = part.read_bytes()
    part.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"state-1-2-of-2.* was altered.*; delete it to train from the start"):
        read_saved(path)
    part.unlink()
    with pytest.raises(CheckpointError, match=r"state-1-2-of-2.* cannot be read"):
        read_saved(path)
    index_of(path).write_text('{"files": []}')
    with pytest.raises(CheckpointError, match=r"state.index.json is damaged"):
        read_saved(path)
