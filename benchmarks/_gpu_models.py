"""Sections of `gpu.py` on recommenders: milliseconds of a training batch at Baby's size, and full ranking."""

from __future__ import annotations

import time
from functools import partial

import torch

import ranking as bare_ranking
from _gpu_device import Options, Section, TimedBatches, Values, attempt, matmul_precision, now
from _logs import Log, load, synthetic
from lmm4rec.core.registry import RECOMMENDERS
from lmm4rec.core.types import Embeddings
from lmm4rec.evaluation.evaluator import Evaluator
from lmm4rec.features.source import Frozen
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import TripleSampler
from lmm4rec.training.trainer import Trainer

MODELS = (
    "lightgcn", "freedom", "mgcn", "bm3", "vbpr", "bpr", "lattice", "slmrec", "mmgcn", "grcn", "lgmrec", "layergcn",
    "dragon", "smore", "damrs",
)  # fmt: skip
BATCH_SIZE, BATCHES = 2048, 50
TINY = (300, 120, 3000)  # users, items, interactions


def models(options: Options) -> Section:
    """Milliseconds of a batch with float32 products, and with TF32; seconds to build and to begin an epoch."""
    log, began = _log("baby", options), time.perf_counter()
    yield {"log": log.source, "batch_size": _batch_size(options)}
    for name in MODELS[: 2 if options.tiny else None]:
        if time.perf_counter() - began < 0.9 * options.seconds:
            yield {name: attempt(partial(_model, name, log, options))}
        else:
            yield {name: {"skipped": "the section's time was over"}}


def _model(name: str, log: Log, options: Options) -> Values:
    device, features, graph = options.device, log.features(), log.graph()
    generator = torch.Generator().manual_seed(0)
    began = time.perf_counter()
    objective = RankingObjective(RECOMMENDERS.get(name)(graph, features, generator), Frozen(features))
    built = time.perf_counter() - began
    sampler = TripleSampler(graph.users, graph.items, graph.n_items, batch_size=_batch_size(options))
    seconds: dict[str, float] = {}
    for precision in ("highest",) if options.tiny else ("highest", "high"):
        with matmul_precision(precision):
            batches = TimedBatches(sampler, BATCHES, device)
            Trainer(epochs=1, device=str(device)).fit(objective, batches, None)
        seconds[precision] = batches.seconds
    began = now(device)
    objective.begin_epoch(generator)
    values = {"build_seconds": built, "begin_epoch_seconds": now(device) - began, "batches": batches.batches}
    tf32 = {"milliseconds_a_batch_tf32": 1000 * seconds["high"]} if "high" in seconds else {}
    return {"milliseconds_a_batch": 1000 * seconds["highest"], **tf32, **values}


def ranking(options: Options) -> Section:
    """Users/s of full ranking with all metrics, beside the bare product and selection."""
    for name in ("baby",) if options.tiny else ("baby", "large"):
        yield {name: attempt(partial(_ranking_of, _log(name, options), options))}


def _ranking_of(log: Log, options: Options) -> Values:
    device, generator, evaluator = options.device, torch.Generator().manual_seed(0), Evaluator()
    vectors = (torch.randn(rows, 64, generator=generator).to(device) for rows in (log.n_users, log.n_items))
    scorer = Embeddings(*vectors)
    users = len(evaluator.evaluate(scorer, log.parts[2], log.parts[:2]).users)
    works = {
        "bare_kernels": lambda: bare_ranking.bare_kernels(scorer, max(evaluator.ks)),
        "metrics": lambda: evaluator.evaluate(scorer, log.parts[2], log.parts[:2]),
    }
    rounds = 3 if options.tiny or log.n_users < 100_000 else 1
    seconds = bare_ranking.medians(works, lambda: now(device), rounds=rounds)
    sizes = {"log": log.source, "users": users, "items": log.n_items, "metrics": len(evaluator.ks)}
    return {
        "users_per_s": users / seconds["metrics"],
        "bare_users_per_s": log.n_users / seconds["bare_kernels"],
        **sizes,
    }


def _log(name: str, options: Options) -> Log:
    return synthetic(*TINY) if options.tiny else load(name)


def _batch_size(options: Options) -> int:
    return 256 if options.tiny else BATCH_SIZE
