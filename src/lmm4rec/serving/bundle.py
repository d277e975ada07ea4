"""The bundle: what leaves a run and recommends without any training code."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from lmm4rec.core.errors import CheckpointError, LMM4RecError
from lmm4rec.core.files import atomic, read_json, write_json
from lmm4rec.core.types import Embeddings, Neighbors, Scorer
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.interactions import Interactions
from lmm4rec.evaluation.ranking import top_k

VERSION = 1
_FACTS, _VECTORS, _USERS, _ITEMS, _SEEN = (
    "bundle.json",
    "vectors.safetensors",
    "users.parquet",
    "items.parquet",
    "seen.parquet",
)


class Recommendation(NamedTuple):
    """One recommended item."""

    item: str
    title: str
    score: float


@dataclass(frozen=True)
class Bundle:
    """A trained model with its ids: external ids in, external ids out."""

    scorer: Scorer
    users: Vocabulary
    items: Vocabulary
    titles: tuple[str, ...]
    seen: Interactions  # what each user already has
    facts: Mapping[str, Any]  # model, data, metrics

    @classmethod
    def of(cls, scorer: Scorer, dataset: Dataset, facts: Mapping[str, Any]) -> Bundle:
        """The bundle of a trained model; all known interactions count as seen."""
        titles = tuple(dataset.catalog.title(row) for row in range(dataset.n_items))
        return cls(scorer, dataset.users, dataset.items, titles, dataset.interactions, facts)

    def recommend(
        self, users: Iterable[object], k: int = 10, *, exclude_seen: bool = True
    ) -> dict[str, list[Recommendation]]:
        """The `k` best items for each user, best first; ties go to the item that stands first in the catalog.

        Raises:
            DataError: a user is unknown.
        """
        asked = [str(user) for user in users]
        exclude = [self.seen] if exclude_seen else []
        items, scores = top_k(self.scorer, self.users.rows(asked), k, exclude=exclude)
        return {user: self._named(*row) for user, *row in zip(asked, items.tolist(), scores.tolist(), strict=True)}

    def similar(self, items: Iterable[object], k: int = 10) -> dict[str, list[Recommendation]]:
        """The `k` items whose vectors (or common users) are nearest to each given one, by cosine.

        Raises:
            DataError: an item is unknown.
        """
        asked = [str(item) for item in items]
        rows = torch.from_numpy(self.items.rows(asked))
        likeness = self._likeness(rows)
        likeness[torch.arange(len(rows)), rows] = -torch.inf
        top = likeness.topk(min(k, len(self.items) - 1), dim=1)
        return {
            item: self._named(*row) for item, *row in zip(asked, top.indices.tolist(), top.values.tolist(), strict=True)
        }

    def _likeness(self, rows: Tensor) -> Tensor:
        if isinstance(self.scorer, Neighbors):
            chosen = torch.zeros(len(self.items), len(rows))
            chosen[rows, torch.arange(len(rows))] = 1.0
            return (self.scorer.similarity @ chosen).T
        if not isinstance(self.scorer, Embeddings):
            raise LMM4RecError(f"a {type(self.scorer).__name__} has no item vectors to compare")
        unit = F.normalize(self.scorer.items, dim=1)
        return unit[rows] @ unit.T

    def _named(self, items: list[int], scores: list[float]) -> list[Recommendation]:
        return [
            Recommendation(self.items[item], self.titles[item], score)
            for item, score in zip(items, scores, strict=True)
            if item >= 0  # -1 pads where fewer than k are left
        ]

    def save(self, folder: Path) -> None:
        """Write the bundle; `bundle.json` comes last, so that a folder with it is whole."""
        tensors, kind = _tensors(self.scorer)
        with atomic(folder / _VECTORS) as beside:
            save_file(tensors, beside)
        frames = {
            _USERS: pl.DataFrame({"id": list(self.users)}),
            _ITEMS: pl.DataFrame({"id": list(self.items), "title": list(self.titles)}),
            _SEEN: pl.DataFrame({"user": self.seen.users, "item": self.seen.items}),
        }
        for name, frame in frames.items():
            with atomic(folder / name) as beside:
                frame.write_parquet(beside)
        write_json(folder / _FACTS, {"version": VERSION, "kind": kind, **self.facts})

    @classmethod
    def load(cls, folder: str | Path) -> Bundle:
        """The bundle in a folder, or in the `bundle/` of a run folder.

        Raises:
            CheckpointError: there is no bundle, it is damaged, or of a newer version.
        """
        folder = Path(folder)
        folder = folder / "bundle" if (folder / "bundle").is_dir() else folder
        if not (folder / _FACTS).exists():
            raise CheckpointError(f"there is no bundle in {folder}: give the folder of a finished run")
        facts = read_json(folder / _FACTS)
        if facts.get("version") != VERSION:
            raise CheckpointError(f"{folder} has bundle version {facts.get('version')}, this release reads {VERSION}")
        try:
            tensors = load_file(folder / _VECTORS)
            users, items, seen = (pl.read_parquet(folder / name) for name in (_USERS, _ITEMS, _SEEN))
            scorer = _scorer(tensors, str(facts["kind"]), users.height, items.height)
        except (OSError, SafetensorError, KeyError, pl.exceptions.PolarsError) as error:
            raise CheckpointError(f"the bundle in {folder} is damaged ({error}); run the experiment again") from error
        log = Interactions(seen["user"].to_numpy().astype(np.int32), seen["item"].to_numpy().astype(np.int32))
        titles = tuple(items["title"].to_list())
        return cls(scorer, Vocabulary(users["id"], kind="user"), Vocabulary(items["id"]), titles, log, facts)


def _tensors(scorer: Scorer) -> tuple[dict[str, Tensor], str]:
    if isinstance(scorer, Embeddings):
        return {"users": scorer.users.contiguous(), "items": scorer.items.contiguous()}, "embeddings"
    if isinstance(scorer, Neighbors):
        return _csr_parts("seen", scorer.seen) | _csr_parts("similarity", scorer.similarity), "neighbors"
    raise LMM4RecError(f"cannot save a {type(scorer).__name__}: a bundle holds embeddings or neighbors")


def _scorer(tensors: Mapping[str, Tensor], kind: str, n_users: int, n_items: int) -> Scorer:
    if kind == "embeddings":
        return Embeddings(tensors["users"], tensors["items"])
    shapes = {"seen": (n_users, n_items), "similarity": (n_items, n_items)}
    return Neighbors(**{name: _csr(tensors, name, shape) for name, shape in shapes.items()})


def _csr_parts(name: str, matrix: Tensor) -> dict[str, Tensor]:
    parts = {"crow": matrix.crow_indices(), "columns": matrix.col_indices(), "values": matrix.values()}
    return {f"{name}.{part}": tensor.contiguous() for part, tensor in parts.items()}


def _csr(tensors: Mapping[str, Tensor], name: str, shape: tuple[int, int]) -> Tensor:
    parts = (tensors[f"{name}.{part}"] for part in ("crow", "columns", "values"))
    crow, columns, values = parts
    return torch.sparse_csr_tensor(crow, columns, values, shape, check_invariants=True)
