"""Recall and NDCG on real data: the films through `table`, and the films and TikTok in the MMRec layout.

    python benchmarks/quality.py films | films-encoders | mmrec-films | mmrec-tiktok
    python benchmarks/quality.py mmrec-tiktok:VBPR      # one model: the other rows stay
    python benchmarks/quality.py --seeds=1 films        # for a first look

Validation chooses each model's setting from a small grid under seed 0, without a look at the test part: all settings
train for 12 epochs, the better half of them for 36, and the best one to its end. Two more seeds of it are then run, and
the test part is read once in each. Needs the shared data (LMM4REC_SHARED).
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _logs import SHARED
from _results import HERE, write
from lmm4rec.core.files import read_json
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.build.recommender_features import recommender_features
from lmm4rec.experiments.build.recommenders import make_recommender
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.environment import Cost
from lmm4rec.experiments.folder import open_folder
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.run import run
from lmm4rec.experiments.train import train
from lmm4rec.features.source import Frozen
from lmm4rec.training.objective import RankingObjective

SEEDS = (0, 1, 2)
TRAIN = {"learning_rate": 2e-3, "epochs": 200, "evaluate_every": 3, "patience": 6}
RUNGS = (12, 36, 200)  # epochs after which the weaker half of the settings is left
WORDS = "{title}. {genres}. {tagline}. {description}"
L2 = [{"l2_weight": weight} for weight in (1e-3, 1e-2)]
NEIGHBORS = [{"neighbors": count, "shrinkage": shrinkage} for count in (20, 50, 100) for shrinkage in (0.0, 10.0)]

Model = tuple[str, Mapping[str, Any], Mapping[str, Any], Sequence[Mapping[str, Any]]]  # name, encoder, features, grid

PLAIN: dict[str, Model] = {
    "Popular": ("popular", {}, {}, [{}]),
    "ItemKNN": ("itemknn", {}, {}, NEIGHBORS),
    "BPR": ("bpr", {}, {}, [*L2, {"l2_weight": 1e-1}]),
    "LightGCN": ("lightgcn", {}, {}, [*L2, {"l2_weight": 1e-2, "dim": 128}]),
}
VBPR = [  # the wider the features and the sparser the log, the tighter the projection must be held
    {"content_dim": 16, "l2_weight": 1e-2, "projection_l2_weight": 1e-3},
    {"content_dim": 64, "l2_weight": 1e-2, "projection_l2_weight": 1e-3},
    {"content_dim": 64, "l2_weight": 1e-1, "projection_l2_weight": 1e-1},
    {"content_dim": 16, "l2_weight": 3e-1, "projection_l2_weight": 1e-1},
]
SHIPPED: Model = ("vbpr", {"name": "precomputed"}, {}, VBPR)
FINETUNE = {  # the main space alone, as the results were made
    "epochs": 10, "batch_size": 64, "learning_rate": 5e-4, "patience": 3,
    "precision": "float32", "vl_weight": 0.0, "matching_weight": 0.0,
}  # fmt: skip
FILMS: dict[str, Model] = {
    **PLAIN,
    "VBPR, shipped MobileNet + MiniLM": SHIPPED,
    "VBPR, MiniLM text": ("vbpr", {"name": "sentence", "text": WORDS}, {}, VBPR),
    "VBPR, tiny CLIP": (
        "vbpr",
        {"name": "clip", "checkpoint": "tiny", "text": WORDS},
        {"train": "finetuned", "finetune": FINETUNE},
        VBPR,
    ),
}
HELD = VBPR[:1]  # one setting for all, so that only the features differ
TUNED = {"train": "finetuned", "finetune": FINETUNE | {"epochs": 30, "patience": 6}}
SIDES: dict[str, list[str]] = {"image + text": [], "image": ["image"], "text": ["text"]}
ENCODERS: dict[str, Model] = {
    f"VBPR, tiny {title}, {sides}": (
        "vbpr",
        {"name": name, "checkpoint": "tiny", "text": WORDS},
        TUNED | {"modalities": chosen},
        HELD,
    )
    for name, title in (("clip", "CLIP"), ("vlmo", "VLMo"), ("beit3", "BEiT-3"))
    for sides, chosen in SIDES.items()
}
ENCODERS |= {
    f"VBPR, shipped MobileNet + MiniLM, {sides}": ("vbpr", {"name": "precomputed"}, {"modalities": chosen}, HELD)
    for sides, chosen in SIDES.items()
}
ENCODERS |= {
    f"VBPR, MiniLM text in {precision}": ("vbpr", {"name": "sentence", "text": WORDS}, {"precision": precision}, HELD)
    for precision in ("float32", "bfloat16")
}
CONTENT: dict[str, Sequence[Mapping[str, Any]]] = {  # keys of the [recommender] table, or with "train." of [train]
    "BM3": [
        {},
        {"l2_weight": 1e-4, "content_weight": 0.5},
        {"l2_weight": 1e-4, "content_weight": 2.0},
        {"l2_weight": 0.0, "content_weight": 0.5, "dropout": 0.5},
        {"l2_weight": 1e-4, "content_weight": 0.5, "layers": 2},
    ],
    "FREEDOM": [
        {},
        {"dropout": 0.9},
        {"content_weight": 1e-4},
        {"content_weight": 1e-4, "dropout": 0.9},
        {"content_weight": 1e-4, "dropout": 0.7},
        {"content_weight": 1e-4, "train.learning_rate": 1e-3},
    ],
    "LATTICE": [{}, {"skip": 0.7}, {"l2_weight": 1e-3}, {"l2_weight": 1e-2}],
    "SLMRec": [
        {"train.weight_decay": 1e-4},
        {"train.weight_decay": 1e-4, "layers": 2},
        {"train.weight_decay": 1e-3},
        {"train.weight_decay": 1e-4, "ssl_weight": 0.05},
    ],
    "MGCN": [{}, {"contrast_weight": 1e-3}, {"l2_weight": 1e-2}, {"contrast_weight": 1e-3, "l2_weight": 1e-2}],
    "LGMRec": [
        {},
        {"contrast_weight": 0.0, "l2_weight": 1e-6},
        {"contrast_weight": 2e-2, "l2_weight": 1e-3},
        {"contrast_weight": 0.0, "l2_weight": 1e-2},
    ],
    "MMGCL": [{}, {"ssl_weight": 0.1}, {"l2_weight": 1e-2}, {"ssl_weight": 0.1, "l2_weight": 1e-2}],
    "GRCN": [  # the authors train at 1e-4 for 20 epochs of a log ten times as long
        {"l2_weight": 1e-4, "train.learning_rate": 5e-4},
        {"l2_weight": 1e-4, "train.learning_rate": 5e-4, "routing": 0},
        {"l2_weight": 1e-4, "routing": 0},
        {"l2_weight": 1e-2, "routing": 1},
    ],
    "MMGCN": [
        {"combination": "concatenate"},
        {"l2_weight": 1e-1},
        {"combination": "concatenate", "train.learning_rate": 5e-4, "train.weight_decay": 1e-4},
        {"combination": "concatenate", "l2_weight": 1e-1, "train.learning_rate": 5e-4, "train.weight_decay": 1e-3},
    ],
}
TRAINED = {  # the same with features that train, as the authors' codes do: what was best of them frozen
    "BM3": [CONTENT["BM3"][0], CONTENT["BM3"][4]],
    "FREEDOM": [CONTENT["FREEDOM"][1], CONTENT["FREEDOM"][4]],
    "LGMRec": CONTENT["LGMRec"][1:3],
}
MMREC: dict[str, Model] = {**PLAIN, "VBPR": SHIPPED}
MMREC |= {name: (name.lower(), {"name": "precomputed"}, {}, grid) for name, grid in CONTENT.items()}
MMREC |= {
    f"{name}, features trained": (
        name.lower(),
        {"name": "precomputed"},
        {},
        [{**setting, "train_features": True} for setting in grid],
    )
    for name, grid in TRAINED.items()
}
WORLDS: dict[str, tuple[dict[str, Any], dict[str, Any], str, dict[str, Model]]] = {
    "films": (
        {"name": "table", "path": str(SHARED / "data/movielens"), "k_core": 5},
        {"method": "random", "valid": 0.1, "test": 0.1, "seed": 0},
        "strict",
        FILMS,
    ),
    "films-encoders": (
        {"name": "table", "path": str(SHARED / "data/movielens"), "k_core": 5},
        {"method": "random", "valid": 0.1, "test": 0.1, "seed": 0},
        "strict",
        ENCODERS,
    ),
    "mmrec-films": ({"name": "mmrec", "path": str(SHARED / "data/mmrec/films")}, {"method": "labels"}, "mmrec", MMREC),
    "mmrec-tiktok": (
        {"name": "mmrec", "path": str(SHARED / "data/mmrec/tiktok")},
        {"method": "labels"},
        "mmrec",
        MMREC,
    ),
}


def conf(world: str, model: Model, setting: Mapping[str, Any], seed: int) -> dict[str, Any]:
    data, split, protocol, _ = WORLDS[world]
    name, encoder, features, _ = model
    train = {key.removeprefix("train."): value for key, value in setting.items() if key.startswith("train.")}
    model_keys = {key: value for key, value in setting.items() if not key.startswith("train.")}
    tables = {"data": data, "split": split, "recommender": {"name": name, **model_keys}}
    tables |= {"train": TRAIN | train | {"seed": seed}, "evaluate": {"protocol": protocol}}
    return tables | ({"encoder": encoder, "features": features} if encoder else {})


def chosen(world: str, model: Model, data: DataCache, folder: Path) -> int:
    """The place of the setting with the best validation recall@20; what it learned on the way is left in `folder`.

    Successive halving (Jamieson and Talwalkar, AISTATS 2016): a setting that goes on does so from where it was.
    """
    left = list(range(len(model[3])))
    for epochs in RUNGS:
        if len(left) == 1:
            break
        scores = {at: validation(world, model, at, data, folder, epochs) for at in left}
        print(f"{world:13} {model[0]:10} validation after {epochs} epochs: {scores}", flush=True)
        left = sorted(left, key=scores.__getitem__, reverse=True)[: math.ceil(len(left) / 2)]
    return left[0]


def validation(world: str, model: Model, at: int, data: DataCache, folder: Path, epochs: int) -> float:
    """The best validation recall@20 of a setting so far; the test part is not measured."""
    tables = conf(world, model, model[3][at], SEEDS[0])
    plan, cut = (make_plan(load_spec(tables, changes)) for changes in ({}, {"train.epochs": epochs}))
    split = data.split(plan)
    features = recommender_features(plan, load_features(plan, split.dataset.catalog)).features
    recommender = make_recommender(plan, split, features)
    if not recommender.is_trained:
        return _counted(plan, recommender, split, features)
    path = folder / f"setting-{at}"
    kept = open_folder(plan, path, resume=path.exists())
    return train(cut, kept, RankingObjective(recommender, Frozen(features)), split, Cost()).best


def _counted(plan: Any, recommender: Any, split: Any, features: Any) -> float:
    from lmm4rec.evaluation.evaluator import Evaluator

    report = Evaluator(ks=[20], metrics=["recall"]).evaluate(recommender.embed(features), split.valid, [split.train])
    return report.mean["recall@20"]


def measure(world: str, label: str, model: Model, data: DataCache, seeds: Sequence[int]) -> dict[str, Any]:
    tests, seconds = [], []
    with TemporaryDirectory() as folder:
        at = chosen(world, model, data, Path(folder))
        for seed in seeds if model[0] not in ("popular", "itemknn") else seeds[:1]:
            out = Path(folder) / (f"setting-{at}" if seed == SEEDS[0] else f"seed-{seed}")
            tables = conf(world, model, model[3][at], seed)
            result = run(tables, out=out, resume=out.exists(), data=data)
            tests.append(result.metrics["test"])
            seconds.append(result.metrics["cost"]["train_seconds"])
            print(f"{world:13} {label:34} seed {seed}: {tests[-1]['recall@20']:.4f}", flush=True)
    row: dict[str, Any] = {
        "setting": dict(model[3][at]),
        "seeds": len(tests),
        "train_seconds": statistics.median(seconds),
    }
    for metric in ("recall@20", "ndcg@20"):
        values = [test[metric] for test in tests]
        row[metric] = {"mean": statistics.mean(values), "min": min(values), "max": max(values)}
        if len(values) > 1:
            row[metric]["spread"] = statistics.stdev(values)
    print(f"{world:13} {label:34} {row['recall@20']['mean']:.4f} / {row['ndcg@20']['mean']:.4f}  {row}", flush=True)
    return row


def main(world: str, only: str = "", *, seeds: Sequence[int] = SEEDS) -> None:
    if not SHARED.is_dir():
        print(f"skipped: no shared data at {SHARED}; name another folder in LMM4REC_SHARED")
        return
    cache, models = DataCache(), WORLDS[world][3]
    path = HERE / "results" / f"quality_{world}.json"
    for label in [only] if only else models:
        row = measure(world, label, models[label], cache, seeds)
        rows = (read_json(path)["values"] if path.exists() else {}) | {label: row}  # another process may have written
        write(f"quality_{world}", {name: rows[name] for name in models if name in rows})


if __name__ == "__main__":
    options = [argument for argument in sys.argv[1:] if argument.startswith("--seeds=")]
    count = int(options[0].partition("=")[2]) if options else len(SEEDS)
    for argument in [argument for argument in sys.argv[1:] if argument not in options] or WORLDS:
        main(*argument.split(":"), seeds=SEEDS[:count])
