"""Later graph models against their papers' equations in a few lines of NumPy."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import pytest
import small
import torch

from lmm4rec.recommenders.dragon import DRAGON
from lmm4rec.recommenders.dualgnn import DualGNN
from lmm4rec.recommenders.layergcn import LayerGCN
from lmm4rec.recommenders.mmgcf import MMGCF
from lmm4rec.recommenders.pgl import PGL
from lmm4rec.recommenders.selfcf import SelfCF
from lmm4rec.recommenders.smore import SMORE

U, P, N = (rows.numpy() for rows in small.batch())


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def normalized() -> np.ndarray:
    """D^-1/2 A D^-1/2 over users, then items."""
    a = small.adjacency()
    scale = 1 / np.sqrt(np.maximum(a.sum(1), 1))
    return scale[:, None] * a * scale


def similar_users() -> np.ndarray:
    """The softmax of the numbers of items in common, over all users with at least one."""
    counts = small.interactions() @ small.interactions().T
    np.fill_diagonal(counts, 0)
    shares = np.exp(counts) * (counts > 0)
    return shares / np.maximum(shares.sum(1, keepdims=True), 1e-300)


def similar_items(neighbors: int, weights: dict[str, float]) -> np.ndarray:
    """FREEDOM's: ones at the nearest of each modality, D^-1/2 S D^-1/2, mixed."""
    mixed = np.zeros((small.ITEMS, small.ITEMS))
    for m, features in small.features().items():
        x = features.numpy().astype(np.float64)
        has = x.any(1)
        cosine = small.unit(x) @ small.unit(x).T  # 0 for an item that lacks the modality, which loses its edges
        s = (cosine >= np.sort(cosine, axis=1)[:, [-neighbors]]) & has & has[:, None]
        scale = 1 / np.sqrt(np.maximum(s.sum(1), 1))
        mixed += weights[m] * scale[:, None] * s * scale
    return mixed


def cosine_graphs(neighbors: dict[str, int]) -> dict[str, np.ndarray]:
    """MGCN's graph of each modality: the cosines of the nearest, D^-1/2 S D^-1/2."""
    graphs = {}
    for m, features in small.features().items():
        x = features.numpy().astype(np.float64)
        has = x.any(1)
        cosine = small.unit(x) @ small.unit(x).T
        s = np.where((cosine >= np.sort(cosine, axis=1)[:, [-neighbors[m]]]) & has & has[:, None], cosine, 0)
        degrees = s.sum(1)
        scale = np.where(degrees > 0, 1 / np.sqrt(np.maximum(degrees, 1e-12)), 0)
        graphs[m] = scale[:, None] * s * scale
    return graphs


def symmetric_interactions() -> np.ndarray:
    """The weights of `normalized` at each interaction."""
    return normalized()[: small.USERS, small.USERS :]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x) / np.exp(x).sum(1, keepdims=True)


def projected(weights: dict[str, np.ndarray], m: str) -> np.ndarray:
    """x W + b, zeros where the item lacks the modality."""
    x = small.features()[m].numpy()
    return (x @ weights[f"projections.maps.{m}"] + weights[f"projections.offsets.{m}"]) * x.any(1, keepdims=True)


def sides(nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return nodes[: small.USERS], nodes[small.USERS :]


def close(found: torch.Tensor, expected: np.ndarray) -> None:
    np.testing.assert_allclose(found.detach(), expected, atol=1e-5)


def test_layergcn() -> None:
    model = LayerGCN(small.graph(), {}, generator(), dim=4, layers=3, dropout=0.0, l2_weight=0.1)
    ego = small.number(model)["nodes"]
    current, total = ego, np.zeros_like(ego)
    for _ in range(3):
        current = normalized() @ current
        current = (small.unit(current) * small.unit(ego)).sum(1, keepdims=True) * current
        total += current
    found = model.embed({})
    close(torch.cat([found.users, found.items]), total)
    losses = small.losses(model)
    assert losses["bpr"] == pytest.approx(small.bpr(*sides(total)), rel=1e-5)
    rows = [ego[U], ego[P + small.USERS], ego[N + small.USERS]]
    assert losses["l2"] == pytest.approx(0.1 * sum((x**2).sum() for x in rows) / 2 / len(U), rel=1e-5)


def test_layergcn_trains_on_a_pruned_graph_and_ranks_over_all_of_it() -> None:
    model = LayerGCN(small.graph(), {}, generator(), dim=4, dropout=0.5)
    before = model.embed({}).scores(torch.arange(small.USERS))
    model.begin_epoch({}, generator())
    assert len(model.pruned.matrix.values()) == len(model.adjacency.matrix.values()) // 2
    assert torch.equal(model.embed({}).scores(torch.arange(small.USERS)), before)


def test_selfcf() -> None:
    model = SelfCF(small.graph(), {}, generator(), dim=4, layers=2, dropout=0.0, l2_weight=0.1)
    weights = small.number(model)
    users, items = sides(small.light(small.adjacency(), 2) @ weights["nodes"])
    f = [side @ weights["predictor.weight"] + weights["predictor.offset"] for side in (users, items)]
    found = model.embed({}).scores(torch.arange(small.USERS))
    close(found, f[0] @ items.T + users @ f[1].T)
    losses = small.losses(model)
    cosines = [(small.unit(f[0][U]) * small.unit(items[P])).sum(1), (small.unit(f[1][P]) * small.unit(users[U])).sum(1)]
    assert losses["predict"] == pytest.approx(1 - np.mean(cosines), rel=1e-5)
    squares = (users[U] ** 2).sum() + (items[P] ** 2).sum()
    assert losses["l2"] == pytest.approx(0.1 * squares / 2 / len(U), rel=1e-5)


def test_selfcf_gives_targets_no_gradient() -> None:
    """Else users and items would collapse to one vector."""
    model = SelfCF(small.graph(), {}, generator(), dim=4, dropout=0.0)
    vectors = torch.randn(small.USERS + small.ITEMS, 4, generator=generator())
    with torch.no_grad():
        model.nodes.copy_(vectors)
        model.predictor.weight.zero_()  # nothing passes through the predictor
        model.predictor.offset.fill_(1.0)
    model.losses(small.batch(), {}, generator())["predict"].backward()
    assert (model.nodes.grad == 0).all()


def by_modality(weights: dict[str, np.ndarray], layers: int) -> list[np.ndarray]:
    """The nodes of DualGNN and DRAGON: preferences and mapped features of length 1, summed over layers."""
    found = []
    for m, features in small.features().items():
        x = features.numpy()
        hidden = small.leaky(x @ weights[f"content.hidden.maps.{m}"] + weights[f"content.hidden.offsets.{m}"])
        items = hidden @ weights[f"content.maps.{m}.weight"] + weights[f"content.maps.{m}.offset"]
        start = small.unit(np.concatenate([weights[f"content.preferences.{m}"], items * x.any(1, keepdims=True)]))
        found.append(sum(np.linalg.matrix_power(normalized(), k) @ start for k in range(layers + 1)))
    return found


def l2_of_preferences(weights: dict[str, np.ndarray]) -> float:
    tables = [weights[f"content.preferences.{m}"] for m in small.features()] + [weights["importance"]]
    return sum(float((x[U] ** 2).sum()) for x in tables) / 2 / len(U)


def test_dualgnn() -> None:
    model = DualGNN(small.graph(), small.features(), generator(), dim=3, layers=2, neighbors=9, l2_weight=0.1)
    assert (model.importance == 0.5).all()
    weights = small.number(model)
    h = by_modality(weights, 2)
    users = sum(weights["importance"][:, [m]] * x[: small.USERS] for m, x in enumerate(h))
    users = users + similar_users() @ users
    items = sum(x[small.USERS :] for x in h)
    found = model.embed(small.features())
    close(found.users, users)
    close(found.items, items)
    expected = {"bpr": small.bpr(users, items), "l2": 0.1 * l2_of_preferences(weights)}
    assert small.losses(model) == pytest.approx(expected, rel=1e-5)


def test_dragon() -> None:
    shares = {"image": 0.25, "text": 0.75}
    model = DRAGON(
        small.graph(), small.features(), generator(), dim=3, layers=1, item_layers=2, neighbors=9, item_neighbors=3,
        modality_weights=shares, l2_weight=0.1,
    )  # fmt: skip
    weights = small.number(model)
    h = by_modality(weights, 1)
    users = np.concatenate([weights["importance"][:, [m]] * x[: small.USERS] for m, x in enumerate(h)], axis=1)
    users = users + similar_users() @ users
    items = np.concatenate([x[small.USERS :] for x in h], axis=1)
    s = similar_items(3, shares)
    items = items + s @ s @ items
    found = model.embed(small.features())
    close(found.users, users)
    close(found.items, items)
    assert found.parts == {"image": slice(0, 3), "text": slice(3, 6)}
    expected = {"bpr": small.bpr(users, items), "l2": 0.1 * l2_of_preferences(weights)}
    assert small.losses(model) == pytest.approx(expected, rel=1e-5)


def test_smore() -> None:
    """Filters as circular convolutions; the fusion's graph as the largest entry of any modality."""
    k = {"image": 2, "text": 3}
    model = SMORE(
        small.graph(), small.features(), generator(), dim=4, layers=2, neighbors=3, modality_neighbors={"image": 2},
        dropout=0.0, contrast_weight=0.3, l2_weight=0.1,
    )  # fmt: skip
    w = small.number(model)
    affine = lambda x, name: x @ w[f"{name}.weight"] + w[f"{name}.offset"]  # noqa: E731
    items = sides(w["nodes"])[1]
    spectra = {m: np.fft.rfft(projected(w, m), norm="ortho") for m in k}
    filtered = lambda f, name: np.fft.irfft(f * (w[f"{name}.weight"] @ [1, 1j]), 4, norm="ortho")  # noqa: E731
    gates = {m: affine(filtered(spectra[m], f"filters.{m}"), f"gates.{m}") for m in k}
    graphs = cosine_graphs(k)
    gates["fused"] = affine(filtered(spectra["image"] * spectra["text"], "fusion_filter"), "fusion_gate")
    has_edge = {m: graphs[m] != 0 for m in k}
    either = np.where(has_edge["image"], graphs["image"], -np.inf), np.where(has_edge["text"], graphs["text"], -np.inf)
    graphs["fused"] = np.where(has_edge["image"] | has_edge["text"], np.maximum(*either), 0)
    of_items = {name: graphs[name] @ (items * sigmoid(gate)) for name, gate in gates.items()}
    views = {name: np.concatenate([symmetric_interactions() @ view, view]) for name, view in of_items.items()}
    behavior = small.light(small.adjacency(), 2) @ w["nodes"]
    side = sigmoid(affine(behavior, "fusion_preference")) * views["fused"]
    for m in k:
        attention = softmax(np.tanh(affine(views["fused"], f"queries.{m}")) @ w[f"asked.{m}"])
        side = side + sigmoid(affine(behavior, f"preferences.{m}")) * attention * views[m]
    side = side / 3
    final = sides(behavior + side)
    found = model.embed(small.features())
    close(torch.cat([found.users, found.items]), np.concatenate(final))
    contrast = sum(
        small.info_nce(sides(side)[kind][rows], sides(behavior)[kind][rows], 0.2) for kind, rows in enumerate((U, P))
    )
    squares = (final[0][U] ** 2).sum() + (final[1][P] ** 2).sum() + (final[1][N] ** 2).sum()
    expected = {"bpr": small.bpr(*final), "contrast": 0.3 * contrast, "l2": 0.1 * squares / 2 / len(U)}
    assert small.losses(model) == pytest.approx(expected, rel=1e-5)


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
            small.graph(), small.features(), generator(), dim=4, layers=2, fusion=fusion, weighting=weighting,
            dropout=0.0, l2_weight=0.1,
        )  # type: ignore[arg-type]  # fmt: skip
        w = small.number(model)
        users, ids = sides(small.light(small.adjacency(), 2) @ w["nodes"])
        content = [projected(w, m) for m in small.features()]
        if weighting == "equal":
            items = fuse[fusion]([ids, fuse[fusion](content, w, "content")], w, "all")
        elif weighting == "learned":
            a = sigmoid(w["id_share"])
            items = fuse[fusion]([a * ids, *((1 - a) * c for c in content)], w, "all")
        else:
            items = fuse[fusion]([2 * small.unit(ids), *map(small.unit, content)], w, "all")
        found = model.embed(small.features())
        close(found.users, users)
        close(found.items, items)
        rows = [w["nodes"][U], w["nodes"][P + small.USERS], w["nodes"][N + small.USERS]]
        l2 = 0.1 * sum((x**2).sum() for x in rows) / 2 / len(U)
        assert small.losses(model) == pytest.approx({"bpr": small.bpr(users, items), "l2": l2}, rel=1e-5)


def pgl(subgraph: Literal["local", "global"]) -> PGL:
    return PGL(
        small.graph(), small.features(), generator(), dim=3, layers=2, item_layers=2, neighbors=3, dropout=0.0,
        subgraph=subgraph, rank=2, contrast_weight=0.3,
    )  # fmt: skip


def test_pgl() -> None:
    """All edges are the subgraph before the first epoch."""
    model = pgl("local")
    w = small.number(model)
    content = np.concatenate([small.unit(projected(w, m)) for m in small.features()], axis=1)
    start = np.concatenate([w["users"], content])
    s = similar_items(3, {"image": 0.5, "text": 0.5})
    users, items = sides(small.light(small.adjacency(), 2) @ start)
    items = items + s @ s @ content
    found = model.embed(small.features())
    close(found.users, users)
    close(found.items, items)
    contrast = (small.info_nce(users[U], users[U], 0.2) + small.info_nce(items[P], items[P], 0.2)) / 2
    expected = {"bpr": small.bpr(users, items), "contrast": 0.3 * contrast}
    assert small.losses(model) == pytest.approx(expected, rel=1e-5)


def test_pgl_trains_on_the_principal_subgraph_and_ranks_over_the_whole_graph() -> None:
    local, decomposed = pgl("local"), pgl("global")
    before = local.embed(small.features()).scores(torch.arange(small.USERS))
    local.begin_epoch(small.features(), generator())
    edges: Any = local.subgraph
    assert len(edges.matrix.values()) == 2 * int(0.3 * len(small.graph().users))
    assert torch.equal(local.embed(small.features()).scores(torch.arange(small.USERS)), before)
    left, values, right = np.linalg.svd(symmetric_interactions())
    truncated = (left[:, :2] * values[:2]) @ right[:2]
    empty = np.zeros((small.USERS, small.USERS)), np.zeros((small.ITEMS, small.ITEMS))
    decomposed.begin_epoch(small.features(), generator())
    close(
        decomposed.subgraph(torch.eye(small.USERS + small.ITEMS)),
        np.block([[empty[0], truncated], [truncated.T, empty[1]]]),
    )
