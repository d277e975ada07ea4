"""A simulated cluster that loses a node in the middle of the work: the tables and bytes of one machine."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lmm4rec.core.files import read_json
from lmm4rec.distributed.pool import WorkerOptions, open_pool
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
    stored = [
        {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}
        for folder in (tmp_path / "one", tmp_path / "cluster")
    ]
    assert stored[0] == stored[1] != {}
