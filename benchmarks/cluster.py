"""What a Ray cluster costs beside local processes, and what the death of a node does; all simulated on this machine.

    python benchmarks/cluster.py
    python benchmarks/cluster.py --images 200 --cells 4 --lost-images 100 --lost-cells 4     # a try

The two pools work in turn, twice each; a pool is started before its clock. Targets: a cluster is at most 10 % slower
than local processes, and after the death of a node tables and bytes are those of one machine. It needs two idle cores.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from _results import write
from lmm4rec.core.files import read_json
from lmm4rec.core.progress import quiet
from lmm4rec.distributed.pool import Pool, WorkerOptions, open_pool
from lmm4rec.distributed.ray_pool import simulated_nodes
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.encoders import make_encoder
from lmm4rec.experiments.build.features import encoding_workers
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.study.study import study
from lmm4rec.features.extract import extract
from lmm4rec.features.store import FeatureStore

WORKERS, ROUNDS = 2, 2


def study_conf(cells: int) -> dict[str, Any]:
    """Runs of a few seconds each, of one model under many seeds."""
    return {
        "title": "short cells",
        "data": {"name": "toyshop", "users": 1000, "items": 500, "interactions": 20000},
        "recommender": {"name": "lightgcn"},
        "train": {"epochs": 30, "patience": 0, "checkpoint_every_s": 1.0},
        "axes": {"seed": list(range(cells))},
    }


def study_seconds(folder: Path, cells: int, cluster: str) -> tuple[float, list[Any]]:
    """Seconds of a study, with the start of its pool, and the test metrics of its cells."""
    began = time.perf_counter()
    with quiet():
        done = study(study_conf(cells), out=folder, workers=WORKERS, cluster=cluster)
    seconds = time.perf_counter() - began
    return seconds, [read_json(done.folder.cell(name).metrics)["test"] for name in sorted(done.done)]


class Encoding:
    """The encoding of images of the toy shop by a CLIP whose weights are in the package."""

    def __init__(self, images: int) -> None:
        self.plan = make_plan(
            load_spec(
                {
                    "title": "images",
                    "data": {"name": "toyshop", "items": images},
                    "encoder": {"name": "clip", "checkpoint": "toyshop"},
                    "recommender": {"name": "vbpr"},
                }
            )
        )
        self.catalog = DataCache().dataset(self.plan).catalog
        assert self.plan.encoder is not None
        self.encoder = make_encoder(self.plan.encoder.table, self.catalog)

    def seconds(self, store: Path, pool: Pool | None) -> float:
        """Seconds of encoding all images into a new store."""
        began = time.perf_counter()
        with quiet():
            extract(
                self.encoder, self.catalog, store=FeatureStore(store), batch_size=64, block_size=128, workers=0,
                pool=encoding_workers(self.plan, pool),
            )  # fmt: skip
        return time.perf_counter() - began


def stored(folder: Path) -> dict[str, bytes]:
    """The stored vectors by file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def compare_pools(folder: Path, cells: int, images: int) -> dict[str, Any]:
    """Both pools in turn."""
    encoding, found = Encoding(images), dict[str, list[float]]()
    for number in range(ROUNDS):
        for name, cluster in (("local", ""), ("ray", f"local:{WORKERS}")):
            began = time.perf_counter()
            with open_pool(WORKERS, cluster, WorkerOptions(gpus=0.0, shared=(folder,))) as pool:
                started = time.perf_counter() - began
                # the first block of each worker loads the encoder, on both
                seconds = encoding.seconds(folder / f"store-{name}-{number}", pool)
            whole, _ = study_seconds(folder / f"study-{name}-{number}", cells, cluster)
            for key, value in (("start", started), ("encode", seconds), ("study_with_start", whole)):
                found.setdefault(f"{name}_{key}_s", []).append(round(value, 2))
    medians = {key: statistics.median(values) for key, values in found.items()}
    ray_study, local_study = (medians[f"{n}_study_with_start_s"] - medians[f"{n}_start_s"] for n in ("ray", "local"))
    return {
        "seconds": found,
        "ray_over_local_encode": round(medians["ray_encode_s"] / medians["local_encode_s"], 3),
        "ray_over_local_study": round(ray_study / local_study, 3),
    }


def lose_a_node_when(nodes: Any, ready: Callable[[], bool], killed: list[float]) -> threading.Thread:
    """Kill a node as soon as something is true."""

    def watch() -> None:
        while not ready():
            time.sleep(0.02)
        killed.append(time.time())
        nodes.remove_node(sorted(nodes.worker_nodes, key=str)[0], allow_graceful=False)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def lose_nodes(folder: Path, cells: int, images: int) -> dict[str, Any]:
    """A study and an encoding on three nodes, one of which is killed in the middle of each, beside one machine."""
    encoding = Encoding(images)
    _, alone = study_seconds(folder / "alone", cells, "")
    encoding.seconds(folder / "store-alone", None)
    killed: list[float] = []
    nodes = simulated_nodes("local:3", WorkerOptions())
    try:
        out = folder / "lost"
        watcher = lose_a_node_when(nodes, lambda: len(list(out.glob("cells/*/metrics.json"))) >= cells // 4, killed)
        _, survived = study_seconds(out, cells, nodes.address)
        watcher.join()
        store = folder / "store-lost"
        parts = images // 128 // 3
        watcher = lose_a_node_when(nodes, lambda: len(list(store.glob("*/part-*.safetensors"))) >= parts, killed)
        with open_pool(0, nodes.address, WorkerOptions(gpus=0.0, shared=(folder,))) as pool:
            encoding.seconds(store, pool)
        watcher.join()
    finally:
        nodes.shutdown()
    return {
        "cells": cells,
        "images": images,
        "nodes_killed": len(killed),
        "study_has_the_same_tables": survived == alone and len(alone) == cells,
        "encoding_has_the_same_bytes": stored(store) == stored(folder / "store-alone") != {},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--lost-cells", type=int, default=12)
    parser.add_argument("--lost-images", type=int, default=2000)
    parser.add_argument("--name", default="cluster", help="of the JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LMM4REC_CACHE"] = str(folder / "cache")
        lost = lose_nodes(folder / "lose", arguments.lost_cells, arguments.lost_images)
        price = compare_pools(folder / "price", arguments.cells, arguments.images)
    write(arguments.name, {"cells": arguments.cells, "images": arguments.images, **price, "node_killed": lost})


if __name__ == "__main__":
    main()
