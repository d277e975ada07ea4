"""Diversity of lists by MMR against recall, on films: what the rule `diversity` gives and what it costs.

VBPR and EASE learn from the training part of films; for each λ the test users get lists of 20 by the rule alone, of 100
ranked items each. MMR compares by the model's own vectors (EASE: by the users of the items), or by content: posters and
texts. What a user sees of it is measured by the mean distance (1 - cosine) of two films of a list by their genres,
which are no part of either, and by content. Needs the shared data (LMM4REC_SHARED).

    python benchmarks/diversity.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from _diversity_figure import draw_diversity
from _logs import SHARED
from _results import HERE, write
from cold_items import WORLDS
from feedback_recall import fitted
from lmm4rec.data.splits import split
from lmm4rec.evaluation.beyond_accuracy import coverage, diversity, exposure
from lmm4rec.evaluation.metrics import measure
from lmm4rec.evaluation.ranking import interaction_matrix
from lmm4rec.experiments.build.data import DataCache
from lmm4rec.experiments.build.features import load_features
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import make_plan
from lmm4rec.serving.bundle import Bundle
from lmm4rec.serving.rules import RuleSet

LAMBDAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MODELS, SEEDS, K = {"ease": "EASE", "vbpr": "VBPR"}, 1, 20


def main() -> None:
    if not SHARED.is_dir():
        print(f"skipped: no shared data at {SHARED}; name another folder in LMM4REC_SHARED")
        return
    torch.set_num_threads(2)
    plan = make_plan(load_spec({"recommender": {"name": "vbpr"}, **WORLDS["films"]}))
    dataset = DataCache().dataset(plan)
    features = {m: x.float().clone() for m, x in load_features(plan, dataset.catalog).features.items()}
    sides = {"content": torch.cat([F.normalize(x, dim=1) for x in features.values()], dim=1)}
    genres = [set(text.split(", ")) for text in dataset.catalog.fields["genres"].fill_null("")]
    names = sorted(set().union(*genres) - {"", "(no genres listed)"})
    sides["genres"] = torch.tensor([[float(name in one) for name in names] for one in genres])
    shape = (dataset.n_users, dataset.n_items)
    curves: dict[str, list[dict[str, float]]] = {}
    for name, label in MODELS.items():
        rows: dict[str, list[list[dict[str, float]]]] = {"vectors": [], "content": []}
        for seed in range(1 if name == "ease" else SEEDS):
            parts = split(dataset, "random", valid=0.1, test=0.1, seed=0)
            scorer = fitted(name, parts.train, shape, features, seed)
            bundle = Bundle(
                scorer,
                dataset.users,
                dataset.items,
                [""] * dataset.n_items,
                parts.train,
                {"model": label},
                features=features,
            )  # validation interactions are no candidates for anybody: they are unseen, and count as misses
            truth = interaction_matrix([parts.test], n_users=shape[0], n_items=shape[1])
            for by, of_seeds in rows.items():
                of_seeds.append([point(bundle, truth, sides, lam, by) for lam in LAMBDAS])
        for by, of_seeds in rows.items():
            curves[f"{label}, by {by}"] = [
                {"lambda": lam} | {key: float(np.mean([row[at][key] for row in of_seeds])) for key in of_seeds[0][at]}
                for at, lam in enumerate(LAMBDAS)
            ]
        users = int((np.diff(truth.indptr) > 0).sum())
        write("diversity", {"k": K, "users": users, "items": shape[1], "seeds": SEEDS, "curves": curves})
    draw_diversity(curves, HERE.parent / "docs" / "images" / "mmr.png")


def point(bundle: Bundle, truth: Any, sides: Mapping[str, torch.Tensor], lam: float, by: str) -> dict[str, float]:
    users = np.flatnonzero(np.diff(truth.indptr) > 0)
    rules = RuleSet.of("mmr", {"diversity": lam, "diversity_by": by})
    lists = bundle.recommend_by_rules([bundle.users[user] for user in users.tolist()], K, rules)
    top = np.array([[bundle.items.row(one.item) for one in lists[bundle.users[user]].items] for user in users.tolist()])
    hits = np.asarray(truth[np.repeat(users, K), top.ravel()]).reshape(-1, K).astype(bool)
    values = measure(hits, np.diff(truth.indptr)[users], ["recall", "ndcg"], [K])
    return {
        **{name: float(value.mean()) for name, value in values.items()},
        **{f"diversity by {name}": diversity(top, side) for name, side in sides.items()},
        "coverage": coverage(exposure(top, len(bundle.items))),
    }


if __name__ == "__main__":
    main()
