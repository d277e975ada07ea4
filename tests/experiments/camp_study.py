"""The conf of a small study that several test modules carry out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from worlds import write_camps

Conf = dict[str, Any]
POPULAR = {"recommender.name": "popular", "without": ["encoder", "modalities", "seed"]}
VBPR = {"recommender.name": "vbpr", "recommender.dim": 4, "recommender.content_dim": 4}


def camp_study(folder: Path) -> Conf:
    """Popular once, and VBPR on whole and on shuffled content under two seeds; their data are written to a folder."""
    return write_camps(folder) | {
        "title": "tiny",
        "study": {"metric": "recall@5"},
        "train": {"epochs": 2, "batch_size": 128, "metric": "recall@5"},
        "evaluate": {"ks": [5, 20]},
        "axes": {
            "seed": [0, 1],
            "modalities": ["both", "shuffled"],
            "recommender": {"Popular": POPULAR, "VBPR": VBPR},
        },
    }
