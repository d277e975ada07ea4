"""The logs that speed is measured on: real ones where the shared data is at hand, else drawn ones of the same sizes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from lmm4rec.data.interactions import Interactions
from lmm4rec.nn.graph import InteractionGraph

SHARED = Path(os.environ.get("LMM4REC_SHARED") or Path(__file__).parents[2] / "shared")
WIDTHS = {"image": 4096, "text": 384}  # those of the features that the field uses on these logs
# users, items, interactions; "large" has the size of Electronics
SIZES = {
    "films": (610, 3_639, 90_176),
    "tiktok": (9_308, 6_710, 68_722),
    "baby": (19_445, 7_050, 160_792),
    "sports": (35_598, 18_357, 296_337),
    "clothing": (39_387, 23_033, 278_677),
    "large": (200_000, 63_000, 1_700_000),
}
REAL = {
    "films": "MovieLens films",
    "tiktok": "TikTok",
    "baby": "Amazon Baby",
    "sports": "Amazon Sports",
    "clothing": "Amazon Clothing",
}


@dataclass(frozen=True)
class Log:
    """Training, validation and test part, and where they come from."""

    source: str
    n_users: int
    n_items: int
    parts: tuple[Interactions, Interactions, Interactions]
    folder: Path | None = None

    def graph(self) -> InteractionGraph:
        users, items = (torch.from_numpy(column).long() for column in (self.parts[0].users, self.parts[0].items))
        return InteractionGraph(users, items, self.n_users, self.n_items)

    def features(self) -> dict[str, Tensor]:
        """The features of the log's folder where it has some, else seeded normal ones of the field's widths."""
        if files := sorted(self.folder.glob("*_feat.npy")) if self.folder else []:
            return {file.name.removesuffix("_feat.npy"): torch.from_numpy(np.load(file)).float() for file in files}
        generator = torch.Generator().manual_seed(0)
        return {modality: torch.randn(self.n_items, width, generator=generator) for modality, width in WIDTHS.items()}


def load(name: str) -> Log:
    """The log of the given name of `SIZES`."""
    n_users, n_items, interactions = SIZES[name]
    path = SHARED / f"data/mmrec/{name}/{name}.inter"
    if name in REAL and path.is_file():
        return Log(REAL[name], n_users, n_items, _read(path), path.parent)
    return synthetic(n_users, n_items, interactions)


def synthetic(n_users: int, n_items: int, interactions: int) -> Log:
    """A drawn log of these sizes."""
    return Log("synthetic", n_users, n_items, _draw(n_users, n_items, interactions))


def _read(path: Path) -> tuple[Interactions, Interactions, Interactions]:
    frame = pl.read_csv(path, separator="\t")
    users, items = (frame[name].to_numpy().astype(np.int32) for name in ("userID", "itemID"))
    labels = frame["x_label"].to_numpy()
    train, valid, test = (Interactions(users, items).take(labels == label) for label in range(3))
    return train, valid, test


def _draw(n_users: int, n_items: int, interactions: int) -> tuple[Interactions, Interactions, Interactions]:
    """Eight parts of ten to train, one to validate, one to test; low rows are the popular items and eager users."""
    rng = np.random.default_rng(0)
    users = np.concatenate([np.arange(n_users), (n_users * rng.random(interactions - n_users) ** 2).astype(np.int64)])
    items = (n_items * rng.random(interactions) ** 2).astype(np.int32)
    labels = rng.choice(3, size=interactions, p=(0.8, 0.1, 0.1))
    whole = Interactions(users.astype(np.int32), items)
    train, valid, test = (whole.take(labels == label) for label in range(3))
    return train, valid, test
