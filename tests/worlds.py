"""Tiny worlds whose right answer is known, in memory (`lmm4rec.testing.worlds`) and on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from lmm4rec.testing.worlds import camp_features, camps, share_found

__all__ = ["camp_features", "camps", "share_found", "write_camps"]


def write_camps(folder: Path) -> dict[str, Any]:
    """The camps with their features in the MMRec layout, no images; returns the tables of a conf that reads them.

    Two of each user's held-out items are for validation, the third is for test.
    """
    graph, rest = camps()
    folder.mkdir(parents=True)
    parts = [torch.stack([graph.users, graph.items, torch.zeros_like(graph.users)], 1)]
    for column, label in ((0, 1), (1, 1), (2, 2)):
        users = torch.arange(graph.n_users)
        parts.append(torch.stack([users, rest[:, column], torch.full_like(users, label)], 1))
    rows = torch.cat(parts).numpy()
    frame = pl.DataFrame({"userID": rows[:, 0], "itemID": rows[:, 1], "x_label": rows[:, 2]})
    frame.write_csv(folder / "camps.inter", separator="\t")
    for modality, x in camp_features(torch.Generator().manual_seed(0)).items():
        np.save(folder / f"{modality}_feat.npy", x.numpy())
    return {
        "data": {"name": "mmrec", "path": str(folder)},
        "split": {"method": "labels"},
        "encoder": {"name": "precomputed"},
    }
