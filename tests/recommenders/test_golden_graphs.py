"""LATTICE, FREEDOM, BM3 and MGCN against what the public MMRec toolbox computes from given parameters."""

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
from lmm4rec.recommenders.bm3 import BM3
from lmm4rec.recommenders.freedom import FREEDOM
from lmm4rec.recommenders.lattice import LATTICE
from lmm4rec.recommenders.mgcn import MGCN

MODALITIES = ("image", "text")


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

    def affine(self, target: Affine, name: str) -> None:
        target.weight.copy_(self.parameter(f"{name}.weight").T)
        target.offset.copy_(self.parameter(f"{name}.bias"))

    def check(self, model: Recommender, *, left_out: Iterable[str] = (), extra: float = 0.0) -> None:
        """Scores to 1e-5 of their spread; the loss, terms `left_out` replaced by the `extra` that the toolbox adds."""
        model.begin_epoch(self.features, torch.Generator())
        scores = model.embed(self.features).scores(torch.arange(self.graph.n_users))
        expected = self.tensors["out.scores"]
        assert (scores - expected).abs().max() < 1e-5 * expected.std()
        losses = model.losses(self.batch, self.features, torch.Generator())
        total = sum(float(loss) for name, loss in losses.items() if name not in left_out) + extra
        assert total == pytest.approx(float(self.tensors["out.loss"]), rel=1e-5)


@torch.no_grad()
def test_lattice(shared: Path) -> None:
    golden = Golden(shared, "lattice")
    facts = golden.facts
    model = LATTICE(
        golden.graph, golden.features, torch.Generator(),
        dim=golden.dim, content_dim=int(facts["feat_embed_dim"]), layers=facts["weight_size"].count(",") + 1,
        item_layers=int(facts["n_layers"]), neighbors=int(facts["knn_k"]), skip=float(facts["lambda_coeff"]),
        likes="row", normalize_mix=True, l2_weight=float(facts["reg_weight"]),
    )  # fmt: skip
    golden.fill(model)
    for m, weight in zip(MODALITIES, golden.parameter("modal_weight"), strict=True):
        model.importance[m].copy_(weight)
    golden.check(model)


@torch.no_grad()
def test_freedom(shared: Path) -> None:
    golden = Golden(shared, "freedom")
    facts = golden.facts
    image = float(facts["mm_image_weight"])
    model = FREEDOM(
        golden.graph, golden.features, torch.Generator(),
        dim=golden.dim, layers=int(facts["n_ui_layers"]), item_layers=int(facts["n_mm_layers"]),
        neighbors=int(facts["knn_k"]), modality_weights={"image": image, "text": 1 - image},
        dropout=float(facts["dropout"]), content_weight=float(facts["reg_weight"]),
    )  # fmt: skip
    golden.fill(model)
    golden.check(model)


@torch.no_grad()
def test_bm3(shared: Path) -> None:
    golden = Golden(shared, "bm3")
    facts = golden.facts
    model = BM3(
        golden.graph, golden.features, torch.Generator(),
        dim=golden.dim, layers=int(facts["n_layers"]), dropout=float(facts["dropout"]),
        content_weight=float(facts["cl_weight"]),
    )  # fmt: skip
    golden.fill(model)
    golden.affine(model.predictor, "predictor")
    # the toolbox adds up unsquared norms of all user and all item vectors, divided by the number of items
    penalty = float(facts["reg_weight"]) * sum(float(x.norm()) for x in model._vectors()) / golden.graph.n_items
    golden.check(model, left_out=["l2"], extra=penalty)


@torch.no_grad()
def test_mgcn(shared: Path) -> None:
    golden = Golden(shared, "mgcn")
    facts = golden.facts
    model = MGCN(
        golden.graph, golden.features, torch.Generator(),
        dim=golden.dim, layers=int(facts["n_ui_layers"]), item_layers=int(facts["n_layers"]),
        neighbors=int(facts["knn_k"]), contrast_weight=float(facts["cl_loss"]), l2_weight=float(facts["reg_weight"]),
        average_shared=True,
    )  # fmt: skip
    golden.fill(model)
    for m in MODALITIES:
        golden.affine(model.gates[m], f"gate_{m[0].replace('i', 'v')}.0")
        golden.affine(model.preferences[m], f"gate_{m}_prefer.0")
    golden.affine(model.query, "query_common.0")
    model.asked.copy_(golden.parameter("query_common.2.weight").T)
    golden.check(model)
