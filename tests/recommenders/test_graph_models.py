"""LATTICE, FREEDOM, BM3, MGCN and LGMRec against their papers' equations in a few lines of NumPy."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Batch
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.recommenders.base import Recommender
from lmm4rec.recommenders.bm3 import BM3
from lmm4rec.recommenders.freedom import FREEDOM
from lmm4rec.recommenders.lattice import LATTICE
from lmm4rec.recommenders.lgmrec import LGMRec
from lmm4rec.recommenders.mgcn import MGCN

USERS, ITEMS, DIM, K = 7, 9, 4, 3
Array = np.ndarray


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def interactions() -> Array:
    return np.random.default_rng(0).random((USERS, ITEMS)) < 0.4


def graph() -> InteractionGraph:
    users, items = (torch.from_numpy(side) for side in interactions().nonzero())
    return InteractionGraph(users, items, USERS, ITEMS)


def features(seed: int = 0) -> dict[str, Tensor]:
    widths = {"image": 6, "text": 5, "audio": 3}
    return {m: torch.randn(ITEMS, width, generator=generator(seed + 1)) for m, width in widths.items()}


def batch() -> Batch:
    users, items = (torch.from_numpy(side)[:5] for side in interactions().nonzero())
    return Batch(users, items, torch.tensor([[0, 8], [3, 2], [7, 7], [1, 0], [4, 6]]))


def shaken(model: Recommender) -> Any:
    """The model with all weights and offsets away from their first values."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator(5)), alpha=0.3)
    return model


def numpy(x: Tensor) -> Array:
    return x.detach().double().numpy()


def symmetric(matrix: Array) -> Array:
    degrees = matrix.sum(1)
    scale = np.divide(1, np.sqrt(degrees), out=np.zeros(len(degrees)), where=degrees > 0)
    return scale[:, None] * matrix * scale[None, :]


def adjacency() -> Array:
    both = interactions().astype(float)
    return symmetric(np.block([[np.zeros((USERS, USERS)), both], [both.T, np.zeros((ITEMS, ITEMS))]]))


def smooth(nodes: Array, layers: int) -> Array:
    return sum(np.linalg.matrix_power(adjacency(), k) @ nodes for k in range(layers + 1)) / (layers + 1)


def knn(x: Array, *, weighted: bool) -> Array:
    cosine = unit(x) @ unit(x).T
    kept = cosine >= np.sort(cosine, axis=1)[:, -K][:, None]
    return symmetric(np.where(kept, cosine if weighted else 1.0, 0.0))


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array, axis: int) -> Array:
    return np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)


def bpr(users: Array, items: Array) -> float:
    """Over the whole tables' vectors."""
    u, i, j = (part.numpy() for part in batch())
    positive = (users[u] * items[i]).sum(1)[:, None]
    return float(-np.log(sigmoid(positive - np.einsum("bd,bnd->bn", users[u], items[j]))).mean())


def half_squares(users: Array, items: Array, *, negatives: bool = True) -> float:
    u, i, j = (part.numpy() for part in batch())
    total = (users[u] ** 2).sum() + (items[i] ** 2).sum() + (items[j] ** 2).sum() * negatives
    return float(total / 2 / len(u))


def info_nce(one: Array, other: Array, temperature: float) -> float:
    scores = np.exp(unit(one) @ unit(other).T / temperature)
    return float(-np.log(np.diag(scores) / scores.sum(1)).mean())


def projected(model: Any, m: str) -> Array:
    return numpy(features()[m]) @ numpy(model.projections.maps[m]) + numpy(model.projections.offsets[m])


def embedded(model: Recommender) -> tuple[Array, Array]:
    found: Any = model.embed(features())
    return numpy(found.users), numpy(found.items)


def losses(model: Recommender) -> dict[str, float]:
    return {name: float(loss.detach()) for name, loss in model.losses(batch(), features(), generator()).items()}


def close(found: Array, expected: Array) -> None:
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4)


def test_lattice() -> None:
    model: LATTICE = shaken(LATTICE(
        graph(), features(), generator(), dim=DIM, content_dim=5, neighbors=K, layers=2, item_layers=2, skip=0.7,
        l2_weight=0.1,
    ))  # fmt: skip
    shares = softmax(np.concatenate([numpy(model.importance[m]) for m in features()]), 0)
    mixed = sum(
        share * (0.7 * knn(numpy(x), weighted=True) + 0.3 * knn(projected(model, m), weighted=True))
        for share, (m, x) in zip(shares, features().items(), strict=True)
    )
    nodes = numpy(model.nodes)
    final = smooth(nodes, 2)
    users, items = final[:USERS], final[USERS:] + unit(mixed @ mixed @ nodes[USERS:])
    for found, expected in zip(embedded(model), (users, items), strict=True):
        close(found, expected)
    for _ in range(2):  # the batch that builds the graph, and the next
        assert losses(model) == pytest.approx(
            {"bpr": bpr(users, items), "l2": 0.1 * half_squares(users, items)}, rel=1e-4
        )


def test_lattice_builds_its_graph_once_an_epoch_and_trains_it_there() -> None:
    model = LATTICE(graph(), features(), generator(), dim=DIM, content_dim=5, neighbors=K)
    weight = model.projections.maps["image"]

    def gradient() -> Tensor | None:
        model.zero_grad(set_to_none=True)
        torch.stack(list(model.losses(batch(), features(), generator()).values())).sum().backward()
        return weight.grad

    for _ in range(2):
        model.begin_epoch(features(), generator())
        first = gradient()
        assert first is not None
        assert first.abs().sum() > 0
        assert gradient() is None


def test_freedom() -> None:
    weights = {"image": 2.0, "text": 1.0, "audio": 1.0}
    model: FREEDOM = shaken(FREEDOM(
        graph(), features(), generator(), dim=DIM, neighbors=K, layers=2, item_layers=2, modality_weights=weights,
        content_weight=0.3,
    ))  # fmt: skip
    alike = sum(weights[m] / 4 * knn(numpy(x), weighted=False) for m, x in features().items())
    nodes = numpy(model.nodes)
    final = smooth(nodes, 2)
    users, items = final[:USERS], final[USERS:] + alike @ alike @ nodes[USERS:]
    for found, expected in zip(embedded(model), (users, items), strict=True):
        close(found, expected)
    content = sum(bpr(users, projected(model, m)) for m in features())
    assert losses(model) == pytest.approx({"bpr": bpr(users, items), "content": 0.3 * content}, rel=1e-4)


def test_freedom_trains_on_a_pruned_graph_and_ranks_on_the_whole() -> None:
    model = FREEDOM(graph(), features(), generator(), dim=DIM, neighbors=K, dropout=0.5)
    before, edges = embedded(model), len(model.graph.users)
    pruned = []
    for epoch in range(2):
        model.begin_epoch(features(), generator(epoch))
        pruned.append(model.pruned.matrix.to_dense())
        assert int((pruned[-1] > 0).sum()) == 2 * (edges // 2)
    assert not torch.equal(*pruned)
    for old, new in zip(before, embedded(model), strict=True):
        assert np.array_equal(old, new)


def test_freedom_takes_no_pair_with_an_item_that_lacks_the_modality() -> None:
    x = features()
    x["image"][int(batch().positives[0])] = 0
    model = FREEDOM(graph(), x, generator(), dim=DIM, neighbors=K, modality_weights=dict.fromkeys(x, 1.0))
    with torch.no_grad():
        model.projections.offsets["image"] += 5.0
    one = Batch(*(part[:1] for part in batch()))
    loss = model.losses(one, {"image": x["image"], "text": 0 * x["text"], "audio": 0 * x["audio"]}, generator())
    assert float(loss["content"].detach()) == pytest.approx(1e-3 * 3 * np.log(2))  # ties in all three


@pytest.mark.parametrize(
    ("weights", "words"), [({"image": 1.0}, "text, audio"), ({"image": 0.0, "text": 0.0, "audio": 0.0}, "all 0")]
)
def test_freedom_says_which_modality_has_no_weight(weights: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        FREEDOM(graph(), features(), generator(), modality_weights=weights)


def test_freedom_takes_weights_of_modalities_that_are_left_out() -> None:
    weights = {"image": 0.1, "text": 0.9}
    image = {"image": features()["image"]}
    FREEDOM(graph(), image, generator(), modality_weights=weights)


def test_freedom_says_which_weight_is_of_no_modality() -> None:
    weights = dict.fromkeys(features(), 1.0) | {"img": 1.0}
    message = "modality_weights names 'img', the features have: image, text, audio. Did you mean 'image'?"
    with pytest.raises(ConfigError, match=re.escape(message)):
        FREEDOM(graph(), features(), generator(), modality_weights=weights)


def test_bm3() -> None:
    model: BM3 = shaken(BM3(
        graph(), features(), generator(), dim=DIM, layers=2, dropout=0.0, content_weight=0.5, l2_weight=0.1
    ))  # fmt: skip
    nodes = numpy(model.nodes)
    final = smooth(nodes, 2)
    users, items = final[:USERS], final[USERS:] + nodes[USERS:]
    weight, offset = numpy(model.predictor.weight), numpy(model.predictor.offset)

    def predict(x: Array) -> Array:
        return x @ weight + offset

    for found, expected in zip(embedded(model), (predict(users), predict(items)), strict=True):
        close(found, expected)
    u, i = batch().users.numpy(), batch().positives.numpy()

    def apart(one: Array, other: Array) -> float:
        return float(1 - (unit(one) * unit(other)).sum(1).mean())

    content = {m: projected(model, m)[i] for m in features()}
    assert losses(model) == pytest.approx(
        {
            "reconstruct": apart(predict(users[u]), items[i]) + apart(predict(items[i]), users[u]),
            "align": 0.5 * sum(apart(predict(x), items[i]) for x in content.values()),
            "mask": 0.5 * sum(apart(predict(x), x) for x in content.values()),
            "l2": 0.1 * half_squares(users, items, negatives=False),
        },
        rel=1e-4,
    )


def test_bm3_reads_no_negative_and_stops_the_gradient_of_targets() -> None:
    model: BM3 = shaken(BM3(graph(), features(), generator(), dim=DIM, l2_weight=0.0, content_weight=0.0))
    others = batch()._replace(negatives=batch().negatives + 1)
    for name, loss in model.losses(others, features(), generator()).items():
        assert float(loss.detach()) == losses(model)[name]
    # a predictor without weights makes every prediction a constant: only targets could still carry gradient
    with torch.no_grad():
        model.predictor.weight.zero_()
    model.losses(batch(), features(), generator())["reconstruct"].backward()
    assert model.nodes.grad is not None
    assert not model.nodes.grad.any()


@pytest.mark.parametrize("average_shared", [False, True])
def test_mgcn(average_shared: bool) -> None:
    model: MGCN = shaken(MGCN(
        graph(), features(), generator(), dim=DIM, neighbors=K, layers=2, item_layers=1, temperature=0.3,
        contrast_weight=0.5, l2_weight=0.1, average_shared=average_shared,
    ))  # fmt: skip
    nodes = numpy(model.nodes)
    behavior = smooth(nodes, 2)

    def affine(layer: Any, x: Array) -> Array:
        return x @ numpy(layer.weight) + numpy(layer.offset)

    content = {}
    for m, x in features().items():
        items = knn(numpy(x), weighted=True) @ (nodes[USERS:] * sigmoid(affine(model.gates[m], projected(model, m))))
        content[m] = np.concatenate([adjacency()[:USERS, USERS:] @ items, items])
    attention = softmax(
        np.concatenate([np.tanh(affine(model.query, x)) @ numpy(model.asked) for x in content.values()], axis=1), 1
    )
    shared = sum(attention[:, [k]] * x for k, x in enumerate(content.values()))
    special = sum(sigmoid(affine(model.preferences[m], behavior)) * (x - shared) for m, x in content.items())
    side = (shared + special) / 4 if average_shared else shared + special / 3
    users, items = (behavior + side)[:USERS], (behavior + side)[USERS:]
    for found, expected in zip(embedded(model), (users, items), strict=True):
        close(found, expected)
    u, i = batch().users.numpy(), batch().positives.numpy() + USERS
    contrast = sum(info_nce(side[rows], behavior[rows], 0.3) for rows in (u, i))
    assert losses(model) == pytest.approx(
        {"bpr": bpr(users, items), "l2": 0.1 * half_squares(users, items), "contrast": 0.5 * contrast}, rel=1e-4
    )


def test_lgmrec(monkeypatch: pytest.MonkeyPatch) -> None:
    model: LGMRec = shaken(LGMRec(
        graph(), features(), generator(), dim=DIM, layers=1, content_layers=2, hyper_layers=2, hyperedges=3,
        dropout=0.0, temperature=0.4, global_weight=0.6, contrast_weight=0.5, l2_weight=0.1,
    ))  # fmt: skip
    met = interactions().astype(float)
    ids = smooth(numpy(model.nodes), 1)
    local, found = ids, {}
    for m, x in features().items():
        items, depends = np.split(numpy(x) @ numpy(model.projections.maps[m]), [DIM], axis=1)
        both = np.concatenate([met @ items / met.sum(1, keepdims=True), items])
        local = local + unit(adjacency() @ adjacency() @ both)
        of_items, of_users = softmax(depends / 0.4, 1), softmax(met @ depends / 0.4, 1)
        once = of_items @ (of_items.T @ ids[USERS:])
        edges = of_items.T @ once
        found[m] = np.concatenate([of_users @ edges, of_items @ edges])
    final = local + 0.6 * unit(sum(found.values()))
    users, items = final[:USERS], final[USERS:]
    for got, expected in zip(embedded(model), (users, items), strict=True):
        close(got, expected)
    # the same without the noise of training
    monkeypatch.setattr(model, "_shares", lambda depends, _: (depends / 0.4).softmax(1))
    rows = [np.unique(batch().users), np.unique(batch().positives) + USERS]
    pairs = [("image", "text"), ("image", "audio"), ("text", "audio")]
    contrast = sum(info_nce(found[one][row], found[other][row], 0.4) for row in rows for one, other in pairs)
    assert losses(model) == pytest.approx(
        {"bpr": bpr(users, items), "l2": 0.1 * half_squares(users, items), "contrast": 0.5 * contrast}, rel=1e-4
    )


def test_lgmrec_is_noisy_in_training_only_and_its_noise_is_gumbel() -> None:
    model = LGMRec(graph(), features(), generator(), dim=DIM, dropout=0.0, temperature=1.0, hyperedges=3)
    assert np.array_equal(embedded(model)[1], embedded(model)[1])
    first, second = (float(model.losses(batch(), features(), generator(seed))["bpr"].detach()) for seed in range(2))
    assert first != second
    # the largest of logits + Gumbel noise is a draw from their softmax (the Gumbel-max trick)
    logits = torch.tensor([0.0, 1.0, 2.0]).log_softmax(0)
    draws = model._shares(logits.expand(20_000, 3), generator()).argmax(1).bincount() / 20_000
    torch.testing.assert_close(draws, logits.exp(), atol=0.02, rtol=0.0)


MODELS = {"lattice": LATTICE, "freedom": FREEDOM, "mgcn": MGCN}


@pytest.mark.parametrize("name", MODELS)
def test_another_encoder_makes_another_item_graph(name: str) -> None:
    """Features that change under a model, as in fine-tuning, reach its graph: in ranking at once, in training with the
    next epoch. A cache by data set and k would keep the old one."""
    widths = {"dim": DIM, "neighbors": K}
    old = MODELS[name](graph(), features(), generator(), **widths)
    new = MODELS[name](graph(), features(9), generator(), **widths)  # the same weights, other features
    for model in (old, new):
        model.dropout = 0.0
    old.begin_epoch(features(), generator())
    stale: Any = old.embed(features())
    fresh: Any = new.embed(features(9))
    assert not torch.allclose(stale.items, fresh.items, atol=1e-3)
    changed: Any = old.embed(features(9))
    torch.testing.assert_close(changed.items, fresh.items)
    old.begin_epoch(features(9), generator())
    new.begin_epoch(features(9), generator())
    for one, other in zip(*(m.losses(batch(), features(9), generator()).values() for m in (old, new)), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", [*MODELS, "bm3", "lgmrec"])
def test_features_train_only_where_asked(name: str) -> None:
    component: Any = (MODELS | {"bm3": BM3, "lgmrec": LGMRec})[name]
    frozen, trained = (
        component(graph(), features(), generator(), dim=DIM, train_features=asked) for asked in (False, True)
    )
    width = sum(x.numel() for x in features().values())
    sizes = [sum(p.numel() for p in model.parameters()) for model in (frozen, trained)]
    assert sizes[1] == sizes[0] + width
    torch.stack(list(trained.losses(batch(), features(), generator()).values())).sum().backward()
    assert all(table.grad.abs().sum() > 0 for table in trained.projections.tables.values())
