"""The public MMRec toolbox's test values on the race's data, for the column beside ours in docs/results.md."""

from __future__ import annotations

from functools import cache
from statistics import mean

from _results import HERE
from lmm4rec.core.files import read_json

# test recall@20 / ndcg@20, one untuned setting, one seed
TIKTOK: dict[str, tuple[float, ...]] = {
    "bpr": (0.0483, 0.0214), "lightgcn": (0.0922, 0.0419), "vbpr": (0.0224, 0.0090), "bm3": (0.0620, 0.0249),
    "freedom": (0.0880, 0.0388), "slmrec": (0.0908, 0.0350),
}  # fmt: skip
TOLD = (
    "The MMRec toolbox's values: on Films its Recall@20 after all epochs until its own early stopping, of up to two "
    "settings of its grids the one that validates best, one seed (`python benchmarks/time_to_quality.py`); on TikTok "
    "Recall@20 / NDCG@20 in one untuned setting, one seed."
)


def beside(data: str, label: str) -> str:
    """The toolbox's values of the model with this label; a dash where it was not run."""
    name = label.lower().replace("-", "")
    known: dict[str, dict[str, tuple[float, ...]]] = {"Films": _films(), "TikTok": TIKTOK}
    values = known[data].get(name, ()) if is_known(data) else ()
    return " / ".join(f"{value:.4f}" for value in values) or "–"


def is_known(data: str) -> bool:
    """Whether the toolbox was run on this data."""
    return data in {"Films", "TikTok"}


@cache
def _films() -> dict[str, tuple[float, ...]]:
    """Test recall@20 by model: the mean over seeds of the setting that validates best under each."""
    models = read_json(HERE / "results/time_to_quality_films.json")["values"]["models"]
    found: dict[str, tuple[float, ...]] = {}
    for name, row in models.items():
        best = [max(settings, key=lambda one: one["best"])["test"] for settings in row["toolbox"].values()]
        if best:
            found[name] = (mean(best),)
    return found
