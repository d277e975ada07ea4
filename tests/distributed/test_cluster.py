"""A simulated cluster that loses a node in the middle of the work: the tables and bytes of one machine."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from distributed.pool_jobs import die, die_at_first, fail, square, subtract
from lmm4rec.core.errors import DataError
from lmm4rec.core.files import read_json
from lmm4rec.core.types import Inputs, Item
from lmm4rec.distributed.pool import Job, WorkerDiedError, WorkerOptions, open_pool
from lmm4rec.experiments.study.study import study
from lmm4rec.features.extract import extract
from lmm4rec.features.pool_extract import EncodingWorkers
from lmm4rec.features.store import FeatureStore
from toys import Toy, make_toy_catalog
from worlds import write_camps

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Three nodes of one core each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    for _ in range(2):
        nodes.add_node(num_cpus=1)
    yield nodes
    nodes.shutdown()


def lose_a_node_when(cluster: Any, ready: Callable[[], bool]) -> threading.Thread:
    """Kill a node that is not the head, as soon as something is true."""

    def watch() -> None:
        deadline = time.monotonic() + 200
        while not ready() and time.monotonic() < deadline:
            time.sleep(0.02)
        cluster.remove_node(sorted(cluster.worker_nodes, key=str)[0], allow_graceful=False)

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_a_study_that_loses_a_node_ends_with_the_same_numbers(
    cluster: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    conf = write_camps(tmp_path / "camps") | {
        "title": "cells",
        "study": {"metric": "recall@5"},
        "train": {"epochs": 40, "batch_size": 32, "metric": "recall@5", "patience": 0, "checkpoint_every_s": 0.0},
        "evaluate": {"ks": [5]},
        "axes": {"seed": [0, 1, 2, 3, 4, 5], "recommender": ["bpr", "lightgcn"]},
    }
    del conf["encoder"]
    whole = study(conf, out=tmp_path / "whole", workers=0)
    out = tmp_path / "cluster"
    killer = lose_a_node_when(cluster, lambda: len(list(out.glob("cells/*/metrics.json"))) >= 3)
    with caplog.at_level(logging.WARNING):
        done = study(conf, out=out, cluster=cluster.address)
    killer.join()
    assert (len(done.done), done.failed) == (12, [])
    for name in whole.done:
        first, second = (read_json(one.folder.cell(name).metrics) for one in (whole, done))
        assert (first["valid"], first["test"]) == (second["valid"], second["test"])


class Traced(Toy):
    """A `Toy` that leaves a file for each process that prepares or encodes; one of each kind is killed, once."""

    def __init__(self, traces: Path) -> None:
        super().__init__()
        self.traces, self.batches = traces, 0

    def fingerprint(self) -> str:
        return Toy().fingerprint()

    def prepare(self, items: Sequence[Item]) -> Inputs:
        if any(item.id == "i99" for item in items):
            self.die_once("prepare")
        (self.traces / f"prepare-{os.getpid()}").touch()
        return super().prepare(items)

    def forward(self, inputs: Inputs) -> dict[str, Any]:
        self.batches += 1
        if self.batches == 6:
            self.die_once("encode")
        (self.traces / f"encode-{os.getpid()}").touch()
        return super().forward(inputs)

    def die_once(self, where: str) -> None:
        mark = self.traces / f"killed in {where}"
        if not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture
def cluster_with_gpu() -> Iterator[Any]:
    """A node of one core, and one of a core and a GPU that Ray is told of."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes.add_node(num_cpus=1, num_gpus=1)
    yield nodes
    nodes.shutdown()


def test_beside_gpus_other_workers_prepare_the_batches(
    cluster_with_gpu: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    catalog, traces = make_toy_catalog(200), tmp_path / "traces"
    traces.mkdir()
    extract(Toy(), catalog, store=FeatureStore(tmp_path / "one"), batch_size=8, block_size=32, workers=0)
    options = WorkerOptions(shared=(tmp_path,))
    with caplog.at_level(logging.WARNING), open_pool(0, cluster_with_gpu.address, options) as pool:
        workers = EncodingWorkers(pool, Traced, (traces,), "cpu")
        extract(
            Toy(), catalog, store=FeatureStore(tmp_path / "two"), batch_size=8, block_size=32, workers=0,
            pool=workers,
        )  # fmt: skip
    assert stored(tmp_path / "one") == stored(tmp_path / "two") != {}
    prepared, encoded = (
        {path.name.split("-")[1] for path in traces.glob(f"{what}-*")} for what in ("prepare", "encode")
    )
    assert prepared
    assert len(encoded) == 2, "the killed one and the one in its place, each for many blocks"
    assert not prepared & encoded
    assert len(list(traces.glob("killed in *"))) == 2
    assert "its worker died (ended in the middle of its work" in caplog.text


def test_jobs_on_gpus_return_values_errors_and_survive_deaths(cluster_with_gpu: Any, tmp_path: Path) -> None:
    jobs = [Job(str(n), square, (n,)) for n in range(5)]
    jobs += [Job("fail", fail, ("no such table",)), Job("once", die_at_first, (tmp_path / "mark",))]
    jobs += [Job("always", die), Job("input", subtract, (9,), (Job("two", square, (2,)),))]
    jobs += [Job("bad input", subtract, (9,), (Job("bad", fail, ("no such image",)),))]
    with open_pool(0, cluster_with_gpu.address, WorkerOptions(retries=1, shared=(tmp_path,))) as pool:
        assert pool.slots == 1
        found = {outcome.job.name: outcome for outcome in pool.run(iter(jobs))}
    assert [found[str(n)].result() for n in range(5)] == [0, 1, 4, 9, 16]
    assert (found["once"].result(), found["input"].result()) == ("done", 5)
    for name, message in (("fail", "no such table"), ("bad input", "no such image")):
        assert (type(found[name].error), str(found[name].error)) == (DataError, message)
    with pytest.raises(WorkerDiedError, match="each of 2 worker processes ended"):
        found["always"].result()


def stored(store: Path) -> dict[str, bytes]:
    """The vectors' files."""
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*.safetensors")}


def test_an_encoding_that_loses_a_node_stores_the_same_bytes(cluster: Any, tmp_path: Path) -> None:
    catalog = make_toy_catalog(400)
    extract(Toy(), catalog, store=FeatureStore(tmp_path / "one"), batch_size=8, block_size=16, workers=0)
    killer = lose_a_node_when(cluster, lambda: len(list(tmp_path.glob("cluster/*/part-*"))) >= 5)
    with open_pool(0, cluster.address, WorkerOptions(shared=(tmp_path,))) as pool:
        workers = EncodingWorkers(pool, Toy, (), "cpu")
        extract(
            Toy(), catalog, store=FeatureStore(tmp_path / "cluster"), batch_size=8, block_size=16, workers=0,
            pool=workers,
        )  # fmt: skip
    killer.join()
    assert stored(tmp_path / "one") == stored(tmp_path / "cluster") != {}
