"""An encoder in training under one adapter, measured in a process of its own, so that its peak memory is its own.

python benchmarks/_adapter_step.py ENCODER ADAPTER OPTIONS     # OPTIONS is JSON; prints one JSON object
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from encoding import ENCODERS, PEAK_TFLOPS, draw
from lmm4rec.api import load_encoder
from lmm4rec.core import registry
from lmm4rec.core.types import Batch, Features
from lmm4rec.data.catalog import Catalog
from lmm4rec.encoders.base import Encoder
from lmm4rec.experiments.environment import Cost
from lmm4rec.features.adapters import make_item_vectors
from lmm4rec.features.item_vectors import ItemVectors
from lmm4rec.features.live import Live
from lmm4rec.features.source import FeatureSource, Frozen
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender
from lmm4rec.training.lr_schedule import LearningRateSchedule
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer

WARM = 1  # batches before the clock counts
OWN = {"last": ("blocks",), "lora": ("rank",), "side": ("dim", "stride")}


class Clocked:
    """Some batches of an epoch, with the moments at which each was asked for."""

    def __init__(self, sampler: TripleSampler, batches: int, device: torch.device) -> None:
        self.sampler, self.device, self.asked = sampler, device, list[float]()
        self.batches = min(batches + WARM, len(sampler))

    def __len__(self) -> int:
        return self.batches

    def epoch(self, generator: torch.Generator) -> Iterator[Batch]:
        for batch in itertools.islice(self.sampler.epoch(generator), self.batches):
            self.asked.append(self._now())
            yield batch
        self.asked.append(self._now())

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def median(self) -> float:
        """Seconds a batch."""
        return statistics.median(b - a for a, b in itertools.pairwise(self.asked[WARM:]))


def make_encoder(name: str, catalog: Catalog, folder: Path, *, tiny: bool) -> Encoder:
    texts = catalog.fields["title"].to_list()
    torch.manual_seed(0)
    if not tiny:
        return ENCODERS[name](folder, texts)
    family = name.partition("_")[0]  # of vlmo_base_plus
    registry.ENCODERS.get(family).write_tiny(folder, texts)
    return load_encoder(family, checkpoint=str(folder))


def interactions(items: int, users: int, each: int) -> InteractionGraph:
    rng = np.random.default_rng(0)
    liked = np.stack([rng.choice(items, each, replace=False) for _ in range(users)])
    return InteractionGraph(
        torch.arange(users).repeat_interleave(each), torch.from_numpy(liked.ravel()).long(), users, items
    )


def features_of(encoder: Encoder, items: int) -> Features:
    """The table to begin with; its values do not matter here."""
    generator = torch.Generator().manual_seed(0)
    return {
        m: torch.nn.functional.normalize(torch.randn(items, d, generator=generator)) for m, d in encoder.dims.items()
    }


def make_vectors(encoder: Encoder, catalog: Catalog, adapter: str, options: dict[str, Any]) -> ItemVectors:
    own = {key: options[key] for key in OWN.get(adapter, ())}
    encoding: dict[str, Any] = {}
    if adapter in ("last", "side"):
        encoding = {
            "root": Path(options["cache"]), "device": options["device"], "precision": options["precision"],
            "batch_size": options["encode_batch"],
        }  # fmt: skip
    return make_item_vectors(encoder, catalog, adapter, encoding, **own)  # type: ignore[arg-type]


def measure(name: str, adapter: str, options: dict[str, Any], folder: Path) -> dict[str, Any]:
    device = torch.device(options["device"])
    catalog = draw(folder, options["items"], distinct=options.get("distinct", 0))
    encoder = make_encoder(name, catalog, folder / name, tiny=options["tiny"])
    encoder_parameters = sum(weight.numel() for weight in encoder.parameters())
    features, graph = features_of(encoder, len(catalog)), interactions(len(catalog), options["users"], options["each"])
    generator = torch.Generator().manual_seed(0)
    recommender: Recommender = registry.RECOMMENDERS.get("vbpr")(graph, features, generator)
    sampler = TripleSampler(graph.users, graph.items, graph.n_items, batch_size=options["batch_size"])
    began = time.perf_counter()
    source: FeatureSource = Frozen(features)
    if adapter != "frozen":
        vectors = make_vectors(encoder, catalog, adapter, options)
        memory = {"memory_mb": options["memory_mb"]} if "memory_mb" in options else {}
        source = Live(vectors, features, max_items=options["max_items"], precision=options["precision"], **memory)
    del encoder  # a side network and frozen features need none
    gc.collect()
    setup = time.perf_counter() - began
    if options.get("fill_only"):
        return {"fill_seconds": setup}
    objective = RankingObjective(
        recommender, source, batches=len(sampler), encoder_schedule=LearningRateSchedule(learning_rate=1e-5)
    )
    clocked = Clocked(sampler, options["batches"], device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    cost = Cost()
    history = Trainer(epochs=1, metric="loss", device=str(device)).fit(objective, clocked, dict)
    peak = cost.summary()["peak_memory_mb"]
    facts = history.rows[0]
    before = time.perf_counter()
    source.refresh(final=True)
    refresh = time.perf_counter() - before
    step = clocked.median()
    result: dict[str, Any] = {
        "seconds_a_batch": step,
        "refresh_seconds": refresh if adapter != "frozen" else 0.0,
        "steps_of_an_epoch_seconds": step * len(sampler),
        "epoch_seconds": step * len(sampler) + (refresh if adapter != "frozen" else 0.0),
        "batches_measured": len(clocked.asked) - 1 - WARM,
        "batches_an_epoch": len(sampler),
        "peak_memory_mb": peak,
        "setup_seconds": setup,
        "encoder_parameters": encoder_parameters,
        "trainable_parameters": sum(one.numel() for one in source.parameters() if one.requires_grad),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
    }
    result |= {key: facts[key] for key in ("encoded", "encoder_passes") if key in facts}
    if device.type == "cuda":
        result |= {"peak_gpu_memory_mb": torch.cuda.max_memory_allocated() / 2**20}
    if adapter == "none" and (device.type == "cuda" or options.get("count_operations")):
        result["tflops"] = _operations(objective, sampler) / step / 1e12
        name = torch.cuda.get_device_name() if device.type == "cuda" else ""
        rated = next((peak for accelerator, peak in PEAK_TFLOPS.items() if accelerator in name), 0.0)
        result |= {"share_of_bfloat16_peak": result["tflops"] / rated} if rated else {}
    return result


def _operations(objective: RankingObjective, sampler: TripleSampler) -> int:
    """Floating-point operations of a step: three times those of its losses, the backward pass taking twice as many.

    Activations that are computed again in the backward pass do not count.
    """
    generator = torch.Generator().manual_seed(0)
    objective.train()
    objective.begin_epoch(generator)
    with FlopCounterMode(display=False) as counter:
        objective.losses(next(iter(sampler.epoch(generator))), generator)
    return 3 * int(counter.get_total_flops())


if __name__ == "__main__":
    kind, way, settings = sys.argv[1:]
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    with tempfile.TemporaryDirectory() as where:
        print(json.dumps(measure(kind, way, json.loads(settings), Path(where))))
