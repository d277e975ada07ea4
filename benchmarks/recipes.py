"""Fine-tuning under the plain and the published recipes: held-out retrieval, and the recall of VBPR on the films.

    python benchmarks/recipes.py                      # all that is missing in the results, seed by seed
    python benchmarks/recipes.py --seeds 1 --encoders beit3 --variants plain "official"
    PYTHONPATH=OLD/src python benchmarks/recipes.py --variants plain --label "plain, everything decays"

Tiny encoders with random first weights learn little at rates meant for large pre-trained ones. So the published recipes
stand here twice: as they are, and with the rate of `plain`. Each seed is that of the held-out pairs, of the order and
of VBPR. The last example runs the package of another commit, for which `--label` gives the row a name of its own.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from _logs import SHARED
from _results import HERE, write
from lmm4rec.core.files import read_json
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.encoders import TRAINING, finetune, make_encoder
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import make_plan
from lmm4rec.experiments.run import run

RATE = {"learning_rate": 5e-4}
VARIANTS: dict[str, dict[str, Any]] = {  # keys of [features.finetune]
    "not fine-tuned": {},
    "plain": RATE | {"vl_weight": 0.0, "matching_weight": 0.0},
    "official": {"recipe": "official"},
    "official, rate of plain": RATE | {"recipe": "official"},
    "pretraining, rate of plain": RATE | {"recipe": "pretraining"},
}
SHARED_KEYS = {"epochs": 10, "batch_size": 64, "patience": 3, "precision": "float32"}
WORDS = "{title}. {genres}. {tagline}. {description}"


def tables(encoder: str, variant: str, seed: int) -> dict[str, Any]:
    features: dict[str, Any] = {"train": "frozen"}
    if VARIANTS[variant]:
        features = {"train": "finetuned", "finetune": SHARED_KEYS | {"seed": seed} | VARIANTS[variant]}
    return {
        "data": {"name": "table", "path": str(SHARED / "data/movielens"), "k_core": 5},
        "split": {"method": "random", "valid": 0.1, "test": 0.1, "seed": 0},
        "encoder": {"name": encoder, "checkpoint": "tiny", "text": WORDS},
        "features": features,
        "recommender": {"name": "vbpr", "content_dim": 16, "l2_weight": 1e-2, "projection_l2_weight": 1e-3},
        "train": {"learning_rate": 2e-3, "epochs": 200, "evaluate_every": 3, "patience": 6, "seed": seed},
        "evaluate": {"protocol": "strict"},
    }


def measured(encoder: str, variant: str, seed: int, data: DataCache) -> dict[str, Any]:
    """What one seed reached."""
    conf, row = tables(encoder, variant, seed), dict[str, Any]()
    plan = make_plan(load_spec(conf))
    catalog = data.split(plan).dataset.catalog
    assert plan.encoder is not None
    if VARIANTS[variant]:
        folder = finetune(make_encoder(plan.encoder.table, catalog), catalog, plan.features.finetune_arguments)
        training = read_json(folder / TRAINING)
        row |= {f"held_out_{when}": training[when]["retrieval_recall@5"] for when in ("before", "after")}
        row |= {"epochs": len(training["epochs"]), "best_epoch": training["best_epoch"], "seconds": training["seconds"]}
        row["options"] = training["options"]
    with TemporaryDirectory() as runs:
        metrics = run(conf, out=Path(runs) / "run", data=data).metrics
    alignment = metrics["alignment"].get("after", metrics["alignment"])
    row["all_pairs"] = alignment["retrieval_recall@5"]
    return row | {name: metrics["test"][name] for name in ("recall@20", "ndcg@20")}


def summary(seeds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Means over the seeds, and where there are several their standard deviations."""
    names = ("held_out_before", "held_out_after", "all_pairs", "recall@20", "ndcg@20")
    columns = {name: [row[name] for row in seeds.values() if name in row] for name in names}
    found: dict[str, Any] = {name: statistics.fmean(values) for name, values in columns.items() if values}
    found |= {f"{name}_sd": statistics.stdev(values) for name, values in columns.items() if len(values) > 1}
    return found | {"seeds": seeds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoders", nargs="*", default=["beit3", "vlmo", "clip"])
    parser.add_argument("--variants", nargs="*", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--label", default="", help="the row's name, where it is not the variant's")
    options = parser.parse_args()
    path, data = HERE / "results" / "recipes_films.json", DataCache()
    for seed in range(options.seeds):
        for encoder in options.encoders:
            for variant in options.variants:
                if variant.startswith("pretraining") and encoder != "vlmo":
                    continue
                label = f"{encoder}, {options.label or variant}"
                if str(seed) in _rows(path).get(label, {}).get("seeds", {}):
                    continue
                row = measured(encoder, variant, seed, data)
                rows = _rows(path)  # read again: another process may have written
                rows[label] = summary(rows.get(label, {}).get("seeds", {}) | {str(seed): row})
                write("recipes_films", rows)


def _rows(path: Path) -> dict[str, Any]:
    return dict(read_json(path)["values"]) if path.exists() else {}


if __name__ == "__main__":
    main()
