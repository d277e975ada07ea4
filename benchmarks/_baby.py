"""The log that speed is measured on: Amazon Baby's where the shared data is at hand, else one of the same sizes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl

from lmm4rec.data.interactions import Interactions

USERS, ITEMS = 19_445, 7_050
SHARED = Path(os.environ.get("LMM4REC_SHARED") or Path(__file__).parents[2] / "shared")


def baby() -> tuple[str, list[Interactions]]:
    """Where the log comes from, and its training, validation and test part."""
    path = SHARED / "data/mmrec/baby/baby.inter"
    return ("Amazon Baby", _read(path)) if path.is_file() else ("synthetic", _draw(np.random.default_rng(0)))


def _read(path: Path) -> list[Interactions]:
    frame = pl.read_csv(path, separator="\t")
    users, items = (frame[name].to_numpy().astype(np.int32) for name in ("userID", "itemID"))
    return [Interactions(users, items).take(frame["x_label"].to_numpy() == label) for label in range(3)]


def _draw(rng: np.random.Generator) -> list[Interactions]:
    """About six training interactions a user, and one to validate and one to test."""
    parts = []
    for each in (6, 1, 1):
        users = np.repeat(np.arange(USERS, dtype=np.int32), each)
        parts.append(Interactions(users, rng.integers(ITEMS, size=len(users)).astype(np.int32)))
    return parts
