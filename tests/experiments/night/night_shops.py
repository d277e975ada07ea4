"""A tiny shop on disk: its log, its items, and the conf of its nights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from lmm4rec.experiments.night.refresh import RefreshOptions

OPTIONS = RefreshOptions(least_users=5, rate=0.5)
DAY, OPENING = 86_400, 1_700_000_000


def write_log(folder: Path, users: range, items: range, days: int, **columns: str) -> None:
    """Users who buy an item of their own half of the catalog a day, each in their own order."""
    folder.mkdir(exist_ok=True)
    rows = [
        (f"u{user}", f"i{item}", OPENING + DAY * day + user)
        for user in users
        for day, item in enumerate(np.random.default_rng(user).permutation(np.arange(user % 2, 60, 2))[:days])
        if item in items
    ]
    pl.DataFrame(rows, schema=["user_id", "item_id", "timestamp"], orient="row").write_csv(folder / "interactions.csv")
    frame = pl.DataFrame({"item_id": [f"i{item}" for item in items], "title": [f"item {item}" for item in items]})
    frame.rename(columns).write_csv(folder / "items.csv")


def conf(folder: Path, model: str = "itemknn") -> dict[str, Any]:
    trained = {"epochs": 8, "patience": 3, "learning_rate": 0.02, "batch_size": 64, "metric": "recall@5"}
    return {
        "data": {"name": "table", "path": str(folder)},
        "split": {"method": "global_time"},
        "recommender": {"name": model, "dim": 8} if model == "bpr" else {"name": model},
        "train": trained if model == "bpr" else {"metric": "recall@5"},
        "evaluate": {"ks": [5]},
    }
