"""Scores and losses that the public MMRec toolbox computes from given parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from lmm4rec.core.types import Batch
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.projections import Affine
from lmm4rec.recommenders.lightgcn import LightGCN
from lmm4rec.recommenders.slmrec import SLMRec
from lmm4rec.recommenders.vbpr import VBPR


def golden(shared: Path, name: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(shared / "golden" / "recommenders" / f"rec_{name}.safetensors", framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def world(tensors: dict[str, Tensor], facts: dict[str, str]) -> tuple[InteractionGraph, Batch]:
    graph = InteractionGraph(
        tensors["in.train_users"], tensors["in.train_items"], int(facts["users"]), int(facts["items"])
    )
    users, positives, negatives = (tensors[f"in.batch_{part}"].long() for part in ("users", "positives", "negatives"))
    return graph, Batch(users, positives, negatives[:, None])


def test_lightgcn(shared: Path) -> None:
    tensors, facts = golden(shared, "lightgcn")
    graph, batch = world(tensors, facts)
    weight = float(facts["reg_weight"])
    layers, dim = int(facts["n_layers"]), int(facts["embedding_size"])
    model = LightGCN(graph, {}, torch.Generator(), dim=dim, layers=layers, l2_weight=weight)
    tables = [tensors["param.embedding_dict.user_emb"], tensors["param.embedding_dict.item_emb"]]
    with torch.no_grad():
        model.nodes.copy_(torch.cat(tables))
        scores = model.embed({}).scores(torch.arange(graph.n_users))
        losses = model.losses(batch, {}, torch.Generator())
    spread = tensors["out.scores"].std()
    assert (scores - tensors["out.scores"]).abs().max() < 1e-5 * spread
    # the toolbox adds up unsquared norms of the three batch matrices, divided by the batch
    batch_rows = (tables[0][batch.users], tables[1][batch.positives], tables[1][batch.negatives[:, 0]])
    penalty = weight * sum(float(table.norm()) for table in batch_rows) / len(batch.users)
    assert float(losses["bpr"]) + penalty == pytest.approx(float(tensors["out.loss"]), abs=1e-5)


def test_vbpr(shared: Path) -> None:
    """The toolbox joins text and image before one map with an offset, under one taste vector a user."""
    tensors, facts = golden(shared, "vbpr")
    graph, batch = world(tensors, facts)
    dim = int(facts["embedding_size"])
    features = {"text": tensors["in.text"], "image": tensors["in.image"]}
    model = VBPR(graph, features, torch.Generator(), dim=dim, content_dim=dim, normalize=False)
    ids, taste = tensors["param.u_embedding"].split(dim, dim=1)
    maps = tensors["param.item_linear.weight"].T.split([features["text"].shape[1], features["image"].shape[1]])
    with torch.no_grad():
        model.users.copy_(ids)
        model.items.copy_(tensors["param.i_embedding"])
        for modality, rows in zip(("text", "image"), maps, strict=True):
            model.tastes[modality].copy_(taste)
            model.projections[modality].zero_()[:, :dim] = rows
        scores = model.embed(features).scores(torch.arange(graph.n_users))
        loss = float(model.losses(batch, features, torch.Generator())["bpr"])
    # the map's offset adds the same number to all scores of a user: it changes no ranking and no pair
    constant = taste @ tensors["param.item_linear.bias"]
    expected = tensors["out.scores"] - constant[:, None]
    assert (scores - expected).abs().max() < 1e-5 * tensors["out.scores"].std()
    users = tensors["param.u_embedding"][batch.users]
    items = torch.cat(
        [
            tensors["param.i_embedding"],
            torch.cat(list(features.values()), 1) @ tensors["param.item_linear.weight"].T
            + tensors["param.item_linear.bias"],
        ],
        dim=1,
    )
    batch_rows = (users, items[batch.positives], items[batch.negatives[:, 0]])
    penalty = float(facts["reg_weight"]) * sum(float(table.norm()) for table in batch_rows) / len(users)
    assert loss + penalty == pytest.approx(float(tensors["out.loss"]), abs=1e-5)


def test_slmrec(shared: Path) -> None:
    """The toolbox passes scores through a sigmoid, and keeps the map into the space of a modality that it lacks."""
    tensors, facts = golden(shared, "slmrec")
    graph, batch = world(tensors, facts)
    features = {"image": tensors["in.image"], "text": tensors["in.text"]}  # the order in which the toolbox joins them
    model = SLMRec(
        graph,
        features,
        torch.Generator(),
        dim=int(facts["recdim"]),
        layers=int(facts["layer_num"]),
        temperature=float(facts["temp"]),
        task=facts["ssl_task"].strip('"'),
        ssl_weight=float(facts["ssl_alpha"]),
        ssl_temperature=float(facts["ssl_temp"]),
    )
    given = {name.removeprefix("param."): tensor for name, tensor in tensors.items()}

    def copy(affine: Affine, name: str) -> None:
        affine.weight.copy_(given[f"{name}.weight"].T)
        affine.offset.copy_(given[f"{name}.bias"])

    with torch.no_grad():
        model.users.copy_(given["embedding_user.weight"])
        model.items.copy_(given["embedding_item.weight"])
        for modality in features:
            model.projections[modality].copy_(given[f"{modality[0].replace('i', 'v')}_dense.weight"].T)
            model.offsets[modality].copy_(given[f"{modality[0].replace('i', 'v')}_dense.bias"])
        copy(model.read_user, "embedding_user_after_GCN")
        copy(model.read_item, "embedding_item_after_GCN")
        copy(model.anchor_maps[0], "g_i_iv")
        copy(model.content_maps[0], "g_v_iv")
        copy(model.content_maps[1], "g_t_ivat")
        last = given["g_iva_ivat.weight"]  # two maps in a row are one
        model.anchor_maps[1].weight.copy_((last @ given["g_iv_iva.weight"]).T)
        model.anchor_maps[1].offset.copy_(last @ given["g_iv_iva.bias"] + given["g_iva_ivat.bias"])
        scores = model.embed(features).scores(torch.arange(graph.n_users))
        losses = model.losses(batch, features, torch.Generator())
    assert (torch.sigmoid(scores) - tensors["out.scores"]).abs().max() < 1e-5 * tensors["out.scores"].std()
    assert float(sum(losses.values())) == pytest.approx(float(tensors["out.loss"]), abs=1e-5)
