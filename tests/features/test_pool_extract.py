"""Extraction by a pool: the bytes of one process, in local processes and on a cluster, deaths included."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lmm4rec.core.errors import CheckpointError
from lmm4rec.core.types import Inputs, Item
from lmm4rec.distributed.pool import WorkerOptions, open_pool
from lmm4rec.features.extract import Extracted, extract
from lmm4rec.features.pool_extract import EncodingWorkers
from lmm4rec.features.store import FeatureStore
from toys import Toy, make_toy_catalog


class Killed(Toy):
    """A `Toy` whose process is killed at one item, for the first time."""

    def __init__(self, mark: Path) -> None:
        super().__init__()
        self.mark = mark

    def fingerprint(self) -> str:
        return Toy().fingerprint()

    def prepare(self, items: Sequence[Item]) -> Inputs:
        if not self.mark.exists() and any(item.id == "i17" for item in items):
            self.mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().prepare(items)


def extracted(store: Path, pool: EncodingWorkers | None = None, encoder: Toy | None = None) -> Extracted:
    return extract(
        encoder or Toy(),
        make_toy_catalog(44),
        store=FeatureStore(store),
        batch_size=3,
        block_size=8,
        workers=0,
        pool=pool,
    )


def stored(store: Path) -> dict[str, bytes]:
    """The vectors' files; `entry.json` has times in it."""
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*.safetensors")}


@pytest.mark.long
def test_a_pool_of_one_stores_what_one_process_stores(tmp_path: Path) -> None:
    whole = extracted(tmp_path / "one")
    with open_pool(0) as pool:
        pooled = extracted(tmp_path / "pool", EncodingWorkers(pool, Toy, (), "cpu"))
        assert stored(tmp_path / "pool") == stored(tmp_path / "one") != {}
        assert (pooled.encoded, pooled.reused, pooled.broken) == (whole.encoded, whole.reused, whole.broken)
        with pytest.raises(CheckpointError, match="other weights or files on this machine"):
            extracted(tmp_path / "other", EncodingWorkers(pool, _other_weights, (), "cpu"))


def _other_weights() -> Toy:
    return Toy(seed=1)


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("cluster", ["", "local:2"])
def test_a_killed_worker_loses_no_more_than_its_block(cluster: str, tmp_path: Path) -> None:
    extracted(tmp_path / "one")
    options: Any = WorkerOptions(shared=(tmp_path,))
    with open_pool(2, cluster, options) as pool:
        extracted(tmp_path / "pool", EncodingWorkers(pool, Killed, (tmp_path / "mark",), "cpu"))
    assert (tmp_path / "mark").exists()
    assert stored(tmp_path / "pool") == stored(tmp_path / "one")
