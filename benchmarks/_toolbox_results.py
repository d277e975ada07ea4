"""The public MMRec toolbox's test values on the race's data, for the column beside ours in docs/results.md."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from _results import HERE
from lmm4rec.core.files import read_json

# recall@20 / ndcg@20, one untuned setting, one seed
TIKTOK = {
    "BPR": "0.0483 / 0.0214", "LightGCN": "0.0922 / 0.0419", "VBPR": "0.0224 / 0.0090", "BM3": "0.0620 / 0.0249",
    "FREEDOM": "0.0880 / 0.0388", "SLMRec": "0.0908 / 0.0350",
}  # fmt: skip
TOLD = (
    "The MMRec toolbox's values: on Films its Recall@20 after all epochs until its own early stopping, of up to two "
    "settings of its grids the one that validates best, one seed (`python benchmarks/time_to_quality.py`); on TikTok "
    "Recall@20 / NDCG@20 in one untuned setting, one seed."
)


def toolbox_values(data: str, labels: Mapping[str, object]) -> dict[str, str]:
    """The toolbox's values by our models' labels; empty for data on which it was not run."""
    if data == "TikTok":
        return TIKTOK
    if data != "Films":
        return {}
    rows = read_json(HERE / "results/time_to_quality_films.json")["values"]["models"]
    by_label = {label: rows.get(label.lower().replace("-", ""), {"toolbox": {}})["toolbox"] for label in labels}
    return {label: f"{_test_recall(seeds):.4f}" for label, seeds in by_label.items() if any(seeds.values())}


def _test_recall(seeds: Mapping[str, list[Mapping[str, float]]]) -> float:
    """The mean over seeds of the setting that validates best under each."""
    return mean(max(settings, key=lambda one: one["best"])["test"] for settings in seeds.values())
