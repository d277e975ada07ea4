"""What a frozen encoder and one that trains end to end reach, and how many encodings that takes.

    python benchmarks/paradigms.py                                    # the toy shop, a tiny CLIP without training
    python benchmarks/paradigms.py --only frozen live --epochs 2
    python benchmarks/paradigms.py --checkpoint toyshop --recommender freedom --epochs 40 --seeds 3 --rate 1e-4
    python benchmarks/paradigms.py --data ../shared/data/movielens    # tables of your own; the same layout as --data

Every variant has the same epochs, rates and seeds, and nothing is tuned: this shows prices beside each other, and which
way is best on one small world. "whole catalog" is what encoding all items again after every batch would take, as the
public code of the paper does.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

from _results import write
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.run import run

VARIANTS: dict[str, dict[str, Any]] = {
    "frozen": {"features.train": "frozen"},
    "live": {},
    "live, max_items = 128": {"features.end2end.max_items": 128},
    "every = 4": {"features.end2end.every": 4},
    "every = epoch": {"features.end2end.every": "epoch"},
    "every = epoch, warm start": {"features.end2end.every": "epoch", "features.end2end.warm_start": 2},
}


def conf(options: argparse.Namespace) -> dict[str, Any]:
    data = {"name": "table", "path": options.data, "k_core": 5} if options.data else {"name": "toyshop"}
    end2end = {"learning_rate": options.rate, "precision": options.precision}
    return {
        "data": data,
        "encoder": {"name": options.encoder, "checkpoint": options.checkpoint},
        "features": {"train": "end2end", "precision": options.precision, "end2end": end2end},
        "recommender": {"name": options.recommender},
        "train": {
            "epochs": options.epochs,
            "batch_size": options.batch_size,
            "learning_rate": 3e-3,
            "evaluate_every": options.evaluate_every,
            "patience": 0,
        },
    }


def measured(options: argparse.Namespace, overrides: dict[str, Any], cache: DataCache, seed: int) -> dict[str, float]:
    """What one run reached and cost."""
    with tempfile.TemporaryDirectory() as folder:
        result = run(conf(options), overrides | {"train.seed": seed}, out=Path(folder) / "run", data=cache)
        cost, rows = result.metrics["cost"], result.history
        data = result.metrics["data"]
        batches = math.ceil(data["train"] / options.batch_size)
        training_s = cost["train_seconds"] - cost.get("validate_seconds", 0.0)
        return {
            "recall@20": result.metrics["test"]["recall@20"],
            "ndcg@20": result.metrics["test"]["ndcg@20"],
            "tail_recall@20": result.metrics["slices"]["tail"]["recall@20"],  # of items with few likes
            "encoded_an_epoch": cost.get("encoded", 0) / len(rows),
            "encodings_an_epoch": cost.get("encodings_per_epoch", 0.0),
            "whole_catalog": batches * data["items"],
            "seconds_an_epoch": training_s / len(rows),
            "peak_memory_mb": cost["peak_memory_mb"],
            "trainable_parameters": cost["trainable_parameters"],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="a folder of tables; empty: the toy shop")
    parser.add_argument("--encoder", default="clip")
    parser.add_argument("--checkpoint", default="tiny")
    parser.add_argument("--recommender", default="vbpr")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--evaluate-every", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3, help="of the encoder")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS))
    parser.add_argument("--name", default="paradigms", help="of the JSON file")
    options = parser.parse_args()
    cache, values = DataCache(), dict[str, Any]()
    for variant in options.only:
        runs = [measured(options, VARIANTS[variant], cache, seed) for seed in range(options.seeds)]
        values[variant] = {key: statistics.fmean(one[key] for one in runs) for key in runs[0]}
        values[variant]["recall@20_by_seed"] = [one["recall@20"] for one in runs]
        print(variant, values[variant], flush=True)
    write(options.name, {"options": vars(options), "variants": values})


if __name__ == "__main__":
    main()
