"""SMORE, MMGCF and PGL against the equations in a few lines of NumPy."""

from __future__ import annotations

import itertools
import re
from typing import Any, Literal

import numpy as np
import pytest
import small
import torch
from small import N, P, U

from lmm4rec.core.errors import ConfigError
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.mmgcf import MMGCF
from lmm4rec.recommenders.pgl import PGL
from lmm4rec.recommenders.smore import SMORE


def test_smore() -> None:
    """Filters as circular convolutions; the fusion's graph as the largest entry of any modality."""
    k = {"image": 2, "text": 3}
    model = SMORE(
        small.graph(), small.features(), small.generator(),
        dim=4, layers=2, neighbors=3, modality_neighbors={"image": 2}, dropout=0.0, contrast_weight=0.3, l2_weight=0.1,
    )  # fmt: skip
    w = small.number(model)
    affine = lambda x, name: small.affine(w, name, x)  # noqa: E731
    items = small.sides(w["nodes"])[1]
    spectra = {m: np.fft.rfft(small.projected(w, m), norm="ortho") for m in k}
    filtered = lambda f, name: np.fft.irfft(f * (w[f"{name}.weight"] @ [1, 1j]), 4, norm="ortho")  # noqa: E731
    gates = {m: affine(filtered(spectra[m], f"filters.{m}"), f"gates.{m}") for m in k}
    graphs = small.cosine_graphs(k)
    gates["fused"] = affine(filtered(spectra["image"] * spectra["text"], "fusion_filter"), "fusion_gate")
    has_edge = {m: graphs[m] != 0 for m in k}
    either = np.where(has_edge["image"], graphs["image"], -np.inf), np.where(has_edge["text"], graphs["text"], -np.inf)
    graphs["fused"] = np.where(has_edge["image"] | has_edge["text"], np.maximum(*either), 0)
    of_items = {name: graphs[name] @ (items * small.sigmoid(gate)) for name, gate in gates.items()}
    views = {name: np.concatenate([small.symmetric_interactions() @ view, view]) for name, view in of_items.items()}
    behavior = small.light(small.adjacency(), 2) @ w["nodes"]
    side = small.sigmoid(affine(behavior, "fusion_preference")) * views["fused"]
    for m in k:
        attention = small.softmax(np.tanh(affine(views["fused"], f"queries.{m}")) @ w[f"asked.{m}"], 1)
        side = side + small.sigmoid(affine(behavior, f"preferences.{m}")) * attention * views[m]
    side = side / 3
    final = small.sides(behavior + side)
    found = model.embed(small.features())
    small.close(torch.cat([found.users, found.items]), np.concatenate(final))
    contrast = sum(
        small.info_nce(small.sides(side)[kind][rows], small.sides(behavior)[kind][rows], 0.2)
        for kind, rows in enumerate((U, P))
    )
    squares = (final[0][U] ** 2).sum() + (final[1][P] ** 2).sum() + (final[1][N] ** 2).sum()
    expected = {"bpr": small.bpr(*final), "contrast": 0.3 * contrast, "l2": 0.1 * squares / 2 / len(U)}
    assert small.losses(model) == pytest.approx(expected, rel=1e-5)


def test_smore_says_which_neighbors_are_of_no_modality() -> None:
    message = "modality_neighbors names 'img', the features have: image, text. Did you mean 'image'?"
    with pytest.raises(ConfigError, match=re.escape(message)):
        SMORE(small.graph(), small.features(), small.generator(), modality_neighbors={"img": 3})


def test_mmgcf() -> None:
    """The nine ways to fuse."""
    fuse = {
        "mean": lambda parts, w, name: sum(parts) / len(parts),
        "sum": lambda parts, w, name: sum(parts),
        "concatenate": lambda parts, w, name: (
            np.concatenate(parts, axis=1) @ w[f"joins.{name}.weight"] + w[f"joins.{name}.offset"]
        ),
    }
    for fusion, weighting in itertools.product(fuse, ["equal", "learned", "normalized"]):
        model = MMGCF(
            small.graph(), small.features(), small.generator(), dim=4, layers=2, fusion=fusion, weighting=weighting,
            dropout=0.0, l2_weight=0.1, normalize=False,
        )  # type: ignore[arg-type]  # fmt: skip
        w = small.number(model)
        users, ids = small.sides(small.light(small.adjacency(), 2) @ w["nodes"])
        content = [small.projected(w, m) for m in small.features()]
        if weighting == "equal":
            items = fuse[fusion]([ids, fuse[fusion](content, w, "content")], w, "all")
        elif weighting == "learned":
            a = small.sigmoid(w["id_share"])
            items = fuse[fusion]([a * ids, *((1 - a) * c for c in content)], w, "all")
        else:
            items = fuse[fusion]([2 * small.unit(ids), *map(small.unit, content)], w, "all")
        found = model.embed(small.features())
        small.close(found.users, users)
        small.close(found.items, items)
        rows = [w["nodes"][U], w["nodes"][P + small.USERS], w["nodes"][N + small.USERS]]
        l2 = 0.1 * sum((x**2).sum() for x in rows) / 2 / len(U)
        assert small.losses(model) == pytest.approx({"bpr": small.bpr(users, items), "l2": l2}, rel=1e-5)


def pgl(subgraph: Literal["local", "global"]) -> PGL:
    return PGL(
        small.graph(), small.features(), small.generator(), dim=3, layers=2, item_layers=2, neighbors=3, dropout=0.0,
        subgraph=subgraph, rank=2, contrast_weight=0.3,
    )  # fmt: skip


def test_pgl() -> None:
    """All edges are the subgraph before the first epoch."""
    model = pgl("local")
    w = small.number(model)
    content = np.concatenate([small.unit(small.projected(w, m)) for m in small.features()], axis=1)
    start = np.concatenate([w["users"], content])
    s = small.similar_items(3, {"image": 0.5, "text": 0.5})
    users, items = small.sides(small.light(small.adjacency(), 2) @ start)
    items = items + s @ s @ content
    found = model.embed(small.features())
    small.close(found.users, users)
    small.close(found.items, items)
    contrast = (small.info_nce(users[U], users[U], 0.2) + small.info_nce(items[P], items[P], 0.2)) / 2
    expected = {"bpr": small.bpr(users, items), "contrast": 0.3 * contrast}
    assert small.losses(model) == pytest.approx(expected, rel=1e-5)


def test_pgl_trains_on_the_principal_subgraph_and_ranks_over_the_whole_graph() -> None:
    local, decomposed = pgl("local"), pgl("global")
    before = local.embed(small.features()).scores(torch.arange(small.USERS))
    local.begin_epoch(small.features(), small.generator())
    edges: Any = local.subgraph
    assert len(edges.matrix.values()) == 2 * int(0.3 * len(small.graph().users))
    assert torch.equal(local.embed(small.features()).scores(torch.arange(small.USERS)), before)
    left, values, right = np.linalg.svd(small.symmetric_interactions())
    truncated = (left[:, :2] * values[:2]) @ right[:2]
    empty = np.zeros((small.USERS, small.USERS)), np.zeros((small.ITEMS, small.ITEMS))
    decomposed.begin_epoch(small.features(), small.generator())
    small.close(
        decomposed.subgraph(torch.eye(small.USERS + small.ITEMS)),
        np.block([[empty[0], truncated], [truncated.T, empty[1]]]),
    )


@pytest.mark.parametrize("rank", [5, 16])
def test_pgl_trains_on_the_whole_graph_where_it_has_no_more_singular_values(rank: int) -> None:
    """The 6 users and 5 items have 5 singular values."""
    model = PGL(small.graph(), small.features(), small.generator(), dim=4, subgraph="global", rank=rank)
    small.close(model.subgraph(torch.eye(small.USERS + small.ITEMS)), small.normalized())


@pytest.mark.parametrize("single", ["users", "items"])
def test_pgl_decomposes_the_graph_of_a_single_user_or_item(single: str) -> None:
    """A single user has 1 / sqrt(4 · 1) at each of four items; so has a single item of four users."""
    one, four = torch.zeros(4, dtype=torch.long), torch.arange(4)
    graph = InteractionGraph(one, four, 1, 4) if single == "users" else InteractionGraph(four, one, 4, 1)
    features = {"text": torch.randn(graph.n_items, 3, generator=small.generator())}
    step = PGL(graph, features, small.generator(), dim=4, neighbors=1, subgraph="global").subgraph(torch.eye(5))
    block = np.full((1, 4) if single == "users" else (4, 1), 0.5)
    users, items = block.shape
    small.close(step, np.block([[np.zeros((users, users)), block], [block.T, np.zeros((items, items))]]))
