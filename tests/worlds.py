"""Tiny worlds whose right answer is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from lmm4rec.nn.graph import InteractionGraph


def camps(*, camps: int = 3, users: int = 12, items: int = 10, held_out: int = 3) -> tuple[InteractionGraph, Tensor]:
    """Camps of users who like the items of their own camp and nothing else.

    Each user of a camp has not yet met `held_out` of its items: these must rank first among what is left. Returns the
    graph of what was met, and the held-out items [camps * users, held_out].
    """
    met_users, met_items, rest = [], [], []
    for camp in range(camps):
        for user in range(users):
            hidden = {(user + step) % items for step in range(held_out)}
            row = camp * users + user
            met = [camp * items + item for item in range(items) if item not in hidden]
            met_users += [row] * len(met)
            met_items += met
            rest.append([camp * items + item for item in sorted(hidden)])
    graph = InteractionGraph(torch.tensor(met_users), torch.tensor(met_items), camps * users, camps * items)
    return graph, torch.tensor(rest)


def camp_features(generator: torch.Generator, *, camps: int = 3, items: int = 10, dim: int = 8) -> dict[str, Tensor]:
    """Two modalities in which the items of a camp look alike."""
    centers = {modality: torch.randn(camps, width, generator=generator) for modality, width in _widths(dim).items()}
    return {
        modality: center.repeat_interleave(items, 0)
        + 0.3 * torch.randn(camps * items, center.shape[1], generator=generator)
        for modality, center in centers.items()
    }


def _widths(dim: int) -> dict[str, int]:
    return {"image": dim, "text": dim + 3}


def found(scores: Tensor, graph: InteractionGraph, rest: Tensor) -> float:
    """The share of held-out items that rank first among the items that a user has not met."""
    scores = scores.clone()
    scores[graph.users, graph.items] = -torch.inf
    top = scores.topk(rest.shape[1], dim=1).indices
    return float((top.unsqueeze(2) == rest.unsqueeze(1)).any(2).float().mean())


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
