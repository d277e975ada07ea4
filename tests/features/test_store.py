"""The store as its keeper sees it: verified, listed, pruned; opened without reading it all."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.fingerprint import fingerprint
from lmm4rec.features import store as store_module
from lmm4rec.features.store import FeatureStore
from lmm4rec.features.store_inventory import select_folders, stored_features
from lmm4rec.features.stored_rows import EncoderIdentity, StoredRows

IDENTITY = EncoderIdentity("Plain", "f" * 32, "float32", {"image": 3})


def rows(items: int = 5) -> StoredRows:
    vectors = torch.arange(items * 3.0).reshape(items, 3)
    contents = [fingerprint(row) for row in range(items)]
    return StoredRows.of(contents, {"image": vectors}, torch.zeros(items, dtype=torch.bool))


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    """One whole entry, 'a...', and one that was never finished, 'b...'."""
    store = FeatureStore(tmp_path / "features")
    store.write("a" * 32, rows(), IDENTITY, broken=[])
    store.write_part("b" * 32, rows(2), IDENTITY)
    store.write_part("b" * 32, rows(4), IDENTITY)
    return store


def vector_file(store: FeatureStore) -> Path:
    (path,) = (store.root / ("a" * 32)).glob("*.safetensors")
    return path


def test_verify_notices_what_neither_size_nor_time_tells(store: FeatureStore) -> None:
    store.verify("a" * 32)
    path, status = vector_file(store), vector_file(store).stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert store.read("a" * 32) is not None
    with pytest.raises(CheckpointError, match=f"{path.name} was altered"):
        store.verify("a" * 32)


def test_digests_become_text_only_where_asked_for(store: FeatureStore) -> None:
    found = store.read("a" * 32)
    assert found is not None
    assert "contents" not in vars(found)
    assert found.contents == rows().contents
    assert torch.equal(found.features["image"], rows().features["image"])


def test_a_copied_store_is_checked_once(store: FeatureStore, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[Path] = []
    monkeypatch.setattr(store_module, "compare", lambda _rows, _checksum, path: checked.append(path))
    os.utime(vector_file(store), (0, 0))
    for _ in range(2):
        assert store.read("a" * 32) is not None
    assert checked == [vector_file(store)]


def test_all_that_is_held_is_listed(store: FeatureStore) -> None:
    (store.root / "c").mkdir()
    os.utime(vector_file(store), (time.time() - 7200,) * 2)
    os.utime(store.root / ("a" * 32) / "entry.json", (time.time() - 3600,) * 2)
    by_key = {one.key[0]: one for one in stored_features(store)}
    whole, unfinished, empty = by_key["a"], by_key["b"], by_key["c"]
    assert (whole.items, whole.parts, whole.finished, whole.identity and whole.identity.encoder) == (
        5,
        0,
        True,
        "Plain",
    )
    assert whole.size == sum(path.stat().st_size for path in (store.root / ("a" * 32)).iterdir())
    assert 3590 < whole.age_s < 3700
    assert (unfinished.items, unfinished.parts, unfinished.finished, unfinished.identity) == (6, 2, False, IDENTITY)
    assert (empty.items, empty.finished, empty.identity, empty.size) == (0, False, None, 0)
    assert stored_features(FeatureStore(store.root / "nowhere")) == []


def test_picking_by_key_age_and_state(store: FeatureStore) -> None:
    for path in (store.root / ("b" * 32)).iterdir():
        os.utime(path, (0, 0))
    everything = stored_features(store)
    assert [one.key[0] for one in everything] == ["b", "a"]  # the oldest first
    assert [one.key[0] for one in select_folders(everything, prefix="aa")] == ["a"]
    assert [one.key[0] for one in select_folders(everything, older_than_s=3600.0)] == ["b"]
    assert [one.key[0] for one in select_folders(everything, unfinished=True)] == ["b"]
    assert select_folders(everything, prefix="a", unfinished=True) == []
    store.prune(one.key for one in select_folders(everything, unfinished=True))
    assert [one.key[0] for one in stored_features(store)] == ["a"]


def test_what_a_killed_process_left_half_written_goes_when_it_is_old(store: FeatureStore) -> None:
    folder = store.root / ("b" * 32)
    fresh, abandoned = folder / ".x.safetensors.1.part", folder / ".y.safetensors.2.part"
    for path in (fresh, abandoned):
        path.write_bytes(b"half")
    os.utime(abandoned, (0, 0))
    store.write("b" * 32, rows(), IDENTITY, broken=[])
    assert fresh.exists()  # another process may be writing it
    assert not abandoned.exists()
    assert store.parts("b" * 32) == []


def test_the_same_vectors_are_the_same_bytes(store: FeatureStore, tmp_path: Path) -> None:
    for name in ("other", "third"):
        again = FeatureStore(tmp_path / name)
        again.write("a" * 32, rows(), IDENTITY, broken=[])
        assert vector_file(again).read_bytes() == vector_file(store).read_bytes()
