"""A fair race: what the study conf/studies/race.conf found, as one JSON file that docs/results.md is written from.

    lmm4rec study conf/studies/race.conf -o runs/race       # hours; may be stopped and resumed
    python benchmarks/race.py runs/race
    python benchmarks/race.py runs/graphs graphs            # the same of conf/studies/graphs.conf, without a search
    python benchmarks/race.py runs/sequential sequential    # and of conf/studies/sequential.conf

Each model had the same number of settings to try, on validation; every data set compares with EASE, which has no seeds.
"""

from __future__ import annotations

import statistics
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from _results import write
from lmm4rec.core.files import read_json
from lmm4rec.experiments.report.collect import collect
from lmm4rec.experiments.report.design_comparisons import DesignComparison, compare_with_reference
from lmm4rec.experiments.report.finished_runs import Design
from lmm4rec.experiments.study.cells import cell_name
from lmm4rec.experiments.study.folder import StudyFolder

BASE = "EASE"
METRICS = ("recall@20", "ndcg@20")


def main(path: Path, name: str = "race") -> None:
    folder = StudyFolder(path)
    collection = collect([path])
    data: dict[str, Any] = {}
    for group in collection.groups:
        base = next((design for design in group.designs if design.axes["recommender"] == BASE), None)
        if base is None:
            continue  # the race has not come so far
        against: dict[str, Mapping[str, DesignComparison]] = {}
        for metric in METRICS:
            asked = replace(collection, metric=metric, reference=cell_name(base.axes))
            against[metric] = {one.first.label: one for one in compare_with_reference(group, asked)}
        models = {
            design.axes["recommender"]: row(design, against, folder.search(cell_name(design.axes)))
            for design in group.best_first("test.recall@20")
        }
        facts = group.designs[0].runs[0].measured.data
        plan = group.designs[0].runs[0].result.plan
        data[group.designs[0].axes.get("data", collection.title)] = {
            "users": facts.users, "items": facts.items, "interactions": facts.interactions,
            "split": facts.split, "protocol": plan.evaluate.protocol, "models": models,
        }  # fmt: skip
    finished = {"budget": collection.search, "finished": len(collection.runs), "missing": collection.missing}
    write(name, {**finished, "data": data})


def row(design: Design, against: Mapping[str, Mapping[str, DesignComparison]], search: Path) -> dict[str, Any]:
    """A model on one data set: its test values, its difference to EASE and its setting."""
    found: dict[str, Any] = {"seeds": len(design.runs), "content": design.uses_content}
    found["deterministic"] = design.is_deterministic
    for metric in METRICS:
        values = design.numbers(f"test.{metric}")
        found[metric] = {"mean": statistics.mean(values)}
        if len(values) > 1:
            found[metric]["spread"] = statistics.stdev(values)
        if compared := against.get(metric, {}).get(design.label):
            c = compared.comparison
            found[metric] |= {"difference": c.difference, "low": c.low, "high": c.high, "stars": compared.stars}
    found["valid_recall@20"] = design.mean("valid.recall@20")
    if (search / "tuned.json").exists():
        tuned = read_json(search / "tuned.json")
        found["setting"] = tuned["best"]
        found["trials"] = dict(Counter(trial["state"] for trial in tuned["trials"]))
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/race"), *sys.argv[2:])
