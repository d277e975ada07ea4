"""A golden file of the public MMRec toolbox: what its code computes from given parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from lmm4rec.core.types import Batch
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.projections import Affine
from lmm4rec.recommenders.base import Recommender

MODALITIES = ("image", "text")
NAMES = {"image": "v_gcn", "text": "t_gcn"}  # of the modules by modality in several models


class Golden:
    """One golden file: its world, its parameters, its numbers."""

    def __init__(self, shared: Path, name: str) -> None:
        with safe_open(shared / "golden" / "recommenders" / f"rec_{name}.safetensors", framework="pt") as file:
            self.tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            self.facts: Mapping[str, str] = file.metadata()
        given = self.tensors
        self.graph = InteractionGraph(
            given["in.train_users"], given["in.train_items"], int(self.facts["users"]), int(self.facts["items"])
        )
        parts = [given[f"in.batch_{part}"].long() for part in ("users", "positives", "negatives")]
        self.batch = Batch(parts[0], parts[1], parts[2][:, None])
        self.features = {m: given[f"in.{m}"] for m in MODALITIES}
        self.dim = int(self.facts["embedding_size"])

    def parameter(self, name: str) -> Tensor:
        return self.tensors[f"param.{name}"]

    def fill(self, model: Any) -> None:
        """The id tables and the projections, whose names all four models share there and here."""
        model.nodes.copy_(
            torch.cat([self.parameter("user_embedding.weight"), self.parameter("item_id_embedding.weight")])
        )
        for m in MODALITIES:
            model.projections.maps[m].copy_(self.parameter(f"{m}_trs.weight").T)
            model.projections.offsets[m].copy_(self.parameter(f"{m}_trs.bias"))

    def batch_nodes(self) -> tuple[Tensor, Tensor, Tensor]:
        """The nodes of the batch's users, positives and negatives."""
        items = (self.batch.positives, self.batch.negatives[:, 0])
        return self.batch.users, items[0] + self.graph.n_users, items[1] + self.graph.n_users

    def mean_squares(self, ids: Tensor, rest: Iterable[Tensor]) -> float:
        """What GRCN and MMGCN of the toolbox penalize: mean squares of the batch's id rows and of the rest."""
        users, positives, negatives = (ids[nodes] for nodes in self.batch_nodes())
        taken = [users.repeat(2, 1) ** 2 + torch.cat([positives, negatives]) ** 2, *(x**2 for x in rest)]
        return sum(float(x.mean()) for x in taken)

    def affine(self, target: Affine, name: str) -> None:
        target.weight.copy_(self.parameter(f"{name}.weight").T)
        target.offset.copy_(self.parameter(f"{name}.bias"))

    def check(
        self,
        model: Recommender,
        *,
        left_out: Iterable[str] = (),
        extra: float = 0.0,
        scale: float = 1.0,
        of: str = "",
    ) -> None:
        """Scores to 1e-5 of their spread, and the loss.

        Terms `left_out` are replaced by the `extra` that the toolbox adds; the others are times `scale`. `of` is the
        end of the names of the outputs.
        """
        model.begin_epoch(self.features, torch.Generator())
        self.check_scores(model, of=of)
        self.check_loss(model, left_out=left_out, extra=extra, scale=scale, of=of)

    def check_loss(
        self,
        model: Recommender,
        *,
        left_out: Iterable[str] = (),
        extra: float = 0.0,
        scale: float = 1.0,
        of: str = "",
    ) -> None:
        """The loss of the batch in the epoch that has begun."""
        losses = model.losses(self.batch, self.features, torch.Generator())
        total = scale * sum(float(loss) for name, loss in losses.items() if name not in left_out) + extra
        assert total == pytest.approx(float(self.tensors[f"out.loss{of}"]), rel=1e-5)

    def check_scores(self, model: Recommender, *, of: str = "") -> None:
        """Scores to 1e-5 of their spread."""
        scores = model.embed(self.features).scores(torch.arange(self.graph.n_users))
        expected = self.tensors[f"out.scores{of}"]
        assert (scores - expected).abs().max() < 1e-5 * expected.std()
