"""The part of docs/results.md on new items: each method beside the shared profile, and each model's two parts."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from scipy.stats import ttest_1samp

from _tables import table

PROFILE = "shared content profile"
BY_SEED = Mapping[str, Mapping[str, Any]]


def cold_items(world: str, values: Mapping[str, Any]) -> str:
    """Sentences and both tables; rows that a model has under fewer seeds say so."""
    rows: Mapping[str, BY_SEED] = values["rows"]
    models = {name: row for name, row in rows.items() if any("warm before" in one for one in row.values())}
    alone = {name: row for name, row in rows.items() if name not in models}
    return "\n\n".join((_words(world, values["k"], alone), _alone(alone), _parts_words(models), _parts(models)))


def _words(world: str, k: int, alone: Mapping[str, BY_SEED]) -> str:
    others = {name: _mean(row, "both") for name, row in alone.items() if name not in (PROFILE, "true popularity")}
    best = max(others, key=lambda name: others[name])
    profile, headroom = _mean(alone[PROFILE], "both"), _mean(alone["true popularity"], "both")
    return (
        f"{world}: a fifth of the items is left out of training and added by content alone (`python "
        f"benchmarks/cold_items.py`; [decision 26](decisions/0026-new-items-measured.md)). Recall and NDCG at {k} "
        "among the new items, mean and standard deviation over seeds (of the new items, the validation part and the "
        "weights), and the difference to the shared content profile on the same seeds, with p of a t "
        "test over seeds. The methods stand on the "
        f"vectors of BPR. The profile reaches {profile:.3f}, the best other row ({best}) {others[best]:.3f}; knowing "
        f"only how popular each new item will be gives {headroom:.3f}."
    )


def _alone(alone: Mapping[str, BY_SEED]) -> str:
    head = ["new items ranked by", "Recall@20", "NDCG@20", "recall less the profile's", "p", "better on", "seeds"]
    cells = []
    for name, row in alone.items():
        gains = [one["both"] - alone[PROFILE][seed]["both"] for seed, one in row.items() if seed in alone[PROFILE]]
        wins = f"{sum(gain > 0 for gain in gains)} of {len(gains)}"
        p = f"{ttest_1samp(gains, 0.0).pvalue:.3f}" if len(gains) > 2 else "–"
        beside = ["–", "–", "–"] if name == PROFILE else [f"{statistics.mean(gains):+.4f}", p, wins]
        cells.append([name, _spread(row, "both"), _spread(row, "both ndcg"), *beside, str(len(row))])
    return table(head, cells)


def _parts_words(models: Mapping[str, BY_SEED]) -> str:
    gains = {name: _mean(row, "both") - _mean(row, "profile") for name, row in models.items() if _has(row, "profile")}
    if not gains:
        return ""
    least, most = min(gains.values()), max(gains.values())
    return (
        "What a bundle ranks new items by has two parts: the model's own columns, and the shared content profile, "
        "which is the same for every model with item vectors. Recall@20 among the new items by each part alone and by "
        f"both; a model's own part changes the profile's recall by {least:+.4f} to {most:+.4f}. A model without item "
        "vectors (ItemKNN, EASE) has no profile. Then recall@20 of new items among all items, the share of the lists "
        "that new items get, and recall@20 of warm items before and after new items were added."
    )


def _parts(models: Mapping[str, BY_SEED]) -> str:
    head = ["model", "own part", "profile", "both", "NDCG@20", "among all", "share", "warm before", "after", "seeds"]
    keys = ("own", "profile", "both", "both ndcg", "all", "share of lists", "warm before", "warm after")
    return table(
        head,
        [
            [name, *(f"{_mean(row, key):.3f}" if _has(row, key) else "–" for key in keys), str(len(row))]
            for name, row in models.items()
        ],
    )


def _has(row: BY_SEED, key: str) -> bool:
    return all(key in one for one in row.values())


def _mean(row: BY_SEED, key: str) -> float:
    return float(statistics.mean(one[key] for one in row.values()))


def _spread(row: BY_SEED, key: str) -> str:
    found = [one[key] for one in row.values()]
    return f"{statistics.mean(found):.4f}" + (f" ± {statistics.stdev(found):.4f}" if len(found) > 1 else "")
