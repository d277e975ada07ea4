"""Graph models that use content, against what the public MMRec toolbox computes from given parameters."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import MODALITIES, NAMES, Golden
from torch import nn
from torch.nn import functional as F

from lmm4rec.nn.tables import Table
from lmm4rec.recommenders.bm3 import BM3
from lmm4rec.recommenders.freedom import FREEDOM
from lmm4rec.recommenders.grcn import GRCN
from lmm4rec.recommenders.lattice import LATTICE
from lmm4rec.recommenders.lgmrec import LGMRec
from lmm4rec.recommenders.mgcn import MGCN
from lmm4rec.recommenders.mmgcn import MMGCN


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


@torch.no_grad()
def test_grcn(shared: Path) -> None:
    """The toolbox routes messages from users to items, so that prototypes stay what they are: no routing here."""
    golden = Golden(shared, "grcn")
    width = int(golden.facts["latent_embedding"])
    model = GRCN(
        golden.graph, golden.features, torch.Generator(), dim=golden.dim, content_dim=width, layers=2, routing=0
    )
    model.ids.copy_(golden.parameter("id_gcn.id_embedding"))
    model.confidence.copy_(golden.parameter("model_specific_conf"))
    for m, name in NAMES.items():
        model.projections[m].copy_(golden.parameter(f"{name}.MLP.weight").T)
        model.offsets[m].copy_(golden.parameter(f"{name}.MLP.bias"))
        model.prototypes[m].copy_(golden.parameter(f"{name}.preference"))
    of_users = [model.prototypes[m][golden.batch.users] for m in MODALITIES]
    squares = golden.mean_squares(model.ids, [model.prototypes["image"], *of_users])
    golden.check(model, left_out=["l2"], extra=float(golden.facts["reg_weight"]) * squares)


@torch.no_grad()
def test_mmgcn(shared: Path) -> None:
    """The toolbox always has three layers, which concatenate, and maps images alone before them."""
    golden = Golden(shared, "mmgcn")
    golden.features["image"] = F.pad(golden.features["image"], (0, 1), value=1.0)  # for the offset of their map
    model = MMGCN(golden.graph, golden.features, torch.Generator(), dim=golden.dim, layers=3, combination="concatenate")
    model.ids.copy_(golden.parameter("id_embedding"))
    image = torch.cat([golden.parameter("v_gcn.MLP.weight").T, golden.parameter("v_gcn.MLP.bias")[None]])
    maps = {"image": image, "text": torch.eye(golden.features["text"].shape[1])}
    for m, name in NAMES.items():
        model.projections[m] = nn.Parameter(maps[m])
        model.preferences[m] = Table(golden.parameter(f"{name}.preference"))
        layers: Any = model.layers[m]
        for number, layer in enumerate(layers, start=1):
            weight = golden.parameter(f"{name}.conv_embed_{number}.weight")
            lacking = golden.dim - weight.shape[1]  # theirs keeps the input's width here
            layer.neighbors = nn.Parameter(F.pad(weight, (0, lacking)))
            for affine, theirs in ((layer.own, "linear_layer"), (layer.joined, "g_layer")):
                affine.weight = nn.Parameter(golden.parameter(f"{name}.{theirs}{number}.weight").T)
                affine.offset = nn.Parameter(golden.parameter(f"{name}.{theirs}{number}.bias"))
            of_neighbors, own = layer.joined.weight.split([weight.shape[1], golden.dim])
            layer.joined.weight = nn.Parameter(torch.cat([F.pad(of_neighbors, (0, 0, 0, lacking)), own]))
        layers[-1].joined.weight *= 0.5  # theirs is the mean over modalities, ours the sum
        layers[-1].joined.offset *= 0.5
    squares = golden.mean_squares(model.ids, [model.preferences["image"]])
    golden.check(model, left_out=["l2"], extra=float(golden.facts["reg_weight"]) * squares)


@torch.no_grad()
def test_lgmrec(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores without noise, the loss under the toolbox's Gumbel noise."""
    golden = Golden(shared, "lgmrec")
    facts = golden.facts
    model = LGMRec(
        golden.graph, golden.features, torch.Generator(),
        dim=golden.dim, layers=int(facts["n_ui_layers"]), content_layers=int(facts["n_mm_layers"]),
        hyper_layers=int(facts["n_hyper_layer"]), hyperedges=int(facts["hyper_num"]), dropout=0.0,
        global_weight=float(facts["alpha"]),
    )  # fmt: skip
    model.nodes.copy_(torch.cat([golden.parameter(f"{side}_embedding.weight") for side in ("user", "item_id")]))
    for m, hyper in (("image", "v_hyper"), ("text", "t_hyper")):
        model.projections.maps[m].copy_(torch.cat([golden.parameter(f"item_{m}_trs"), golden.parameter(hyper)], dim=1))
    noise = [golden.tensors[f"in.gumbel_{m}_{side}"] for m in MODALITIES for side in ("users", "items")]
    drawn = itertools.cycle([(-(-x).exp()).exp() for x in noise])  # -ln(-ln u) is the noise again
    monkeypatch.setattr(torch, "rand", lambda shape, generator: next(drawn))
    monkeypatch.setattr("lmm4rec.recommenders.lgmrec.dropout", lambda x, share, generator: x)  # it draws as well
    vectors, by_modality = model._vectors(golden.features, torch.Generator())
    # theirs: a sum over the batch's rows, each against all nodes of its kind; and norms that are not squared
    one, other = (golden.graph.sides(F.normalize(x, dim=1)) for x in by_modality.values())
    contrast = sum(
        float(F.cross_entropy(x[rows] @ y.T / 0.2, rows, reduction="sum"))
        for x, y, rows in zip(one, other, (golden.batch.users, golden.batch.positives), strict=True)
    )
    norms = sum(float(vectors[nodes].norm()) for nodes in golden.batch_nodes()) / len(golden.batch.users)
    extra = float(facts["cl_weight"]) * contrast + float(facts["reg_weight"]) * norms
    golden.tensors["out.loss"] = golden.tensors["out.loss_noisy"]
    golden.check(model, left_out=["l2", "contrast"], extra=extra)
