"""DA-MRS against the equations in a few lines of NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import small
import torch
from scipy.optimize import brentq
from small import N, U

from lmm4rec.core.errors import ConfigError
from lmm4rec.experiments.conf.spec import load_spec
from lmm4rec.experiments.plan import make_plan
from lmm4rec.nn.item_graph import consistent_neighborhoods
from lmm4rec.recommenders.damrs import DAMRS


def test_damrs() -> None:
    """The divergence by its definition, labels by sorting; the batch has interactions that are doubted."""
    given = small.batch()._replace(positives=torch.tensor([0, 1, 1]))
    positives, negatives = given.positives.numpy(), N
    model = DAMRS(
        small.graph(), small.features(), small.generator(), dim=4, layers=2, neighbors=3, common_users=1, labels=1,
        user_weight=0.7, item_weight=0.3,
    )  # fmt: skip
    users, ids = small.sides(small.number(model)["nodes"])
    graph_users, graph_items = small.sides(small.light(small.adjacency(), 2) @ np.concatenate([users, ids]))
    common = small.interactions().T @ small.interactions()
    np.fill_diagonal(common, 1)
    edges = [(common > 0).astype(float)]
    cosines, both, similar = {}, {}, np.ones((small.ITEMS, small.ITEMS), bool)
    for m, features in small.features().items():
        x = features.numpy().astype(np.float64)
        has = x.any(1)
        both[m], cosines[m] = has & has[:, None], small.unit(x) @ small.unit(x).T
        similar &= (cosines[m] >= cosines[m][both[m]].mean()) | ~both[m]
    for m, cosine in cosines.items():
        masked = np.where(similar & both[m], cosine, -np.inf)
        edges.append(((masked >= np.sort(masked, axis=1)[:, [-3]]) & (masked > -np.inf)).astype(float))
    scaled = [1 / np.sqrt(np.maximum(s.sum(1), 1)) for s in edges]
    views = [scale[:, None] * s * scale @ ids for scale, s in zip(scaled, edges, strict=True)]
    mean = sum(views) / 3
    found = model.embed(small.features())
    small.close(found.users, graph_users)
    small.close(found.items, graph_items + mean)

    q = np.stack([small.sigmoid(graph_users[U] @ small.unit(h).T) for h in views])  # [views, batch, items]
    q_positive, q_negative = q[:, range(3), positives], np.stack([q[:, range(3), negatives[:, k]] for k in range(2)])
    p = np.clip(q_positive.mean(0) * np.exp(-2 * q_positive.var(0, ddof=1)), 0, 1)
    c = q_negative.mean()
    n = np.where(q_positive.mean(0) < c, np.clip(q_positive.max(0) - c, 0, 1), 0)
    assert n.any(), "the term of doubted interactions is not tested"
    scores = graph_users[U] @ (graph_items + mean).T
    s = scores[range(3), positives][:, None] - np.take_along_axis(scores, negatives, 1)
    bpr = -(p[:, None] * np.log(small.sigmoid(s)) + n[:, None] * np.log(small.sigmoid(-s))).mean()

    chosen = np.unique(np.concatenate([positives, negatives.ravel()]))
    a, b = (small.sigmoid(graph_users[np.unique(U)] @ small.unit(x[chosen]).T) for x in (graph_items, mean))
    divergence = sum(x * np.log(x / y) + (1 - x) * np.log((1 - x) / (1 - y)) for x, y in ((a, b), (b, a)))

    total = 0.0
    shares = [small.softmax(small.unit(h) @ small.unit(h).T, 1) for h in views]
    for h, share in zip(views, shares, strict=True):
        e = np.exp(small.unit(h) @ small.unit(h).T / 0.2)
        for i in chosen:
            near = np.argmax((sum(shares) + share)[i])
            far = np.argmax(np.where(np.arange(small.ITEMS) == near, 0, share[i]))
            total -= np.log(e[i, near] / e[i].sum()) + np.log(e[i, far] / (e[i].sum() - e[i, near]))
    expected = {"bpr": bpr, "by_users": 0.7 * divergence.mean(), "by_items": 0.3 * total / 3 / len(chosen)}
    assert small.losses(model, given=given) == pytest.approx(expected, rel=1e-5)


def test_items_that_share_one_image_are_told_apart_by_their_text() -> None:
    """Their cosines are 1 but for rounding, and so is the mean over all pairs."""
    for items in range(20, 300, 7):
        text = torch.randn(items, 8, generator=torch.Generator().manual_seed(2))
        image = torch.randn(1, 64, generator=torch.Generator().manual_seed(items)).repeat(items, 1)
        entries = consistent_neighborhoods({"image": image, "text": text}, 4)
        alone = consistent_neighborhoods({"text": text}, 4)["text"]
        assert entries["text"].rows.tolist() == alone.rows.tolist()
        assert entries["text"].columns.tolist() == alone.columns.tolist()


@pytest.mark.parametrize("above", [4e-6, -4e-6])
def test_a_pair_is_similar_from_the_mean_on(above: float) -> None:
    """Three items at angles 0, a and 2, whose mean cosine has a closed form, and cos a just beside it."""

    def beyond_the_mean(angle: float) -> float:
        return np.cos(angle) - (3 + 2 * (np.cos(angle) + np.cos(2) + np.cos(2 - angle))) / 9 - above

    angles = torch.tensor([0.0, brentq(beyond_the_mean, 0.5, 2.0), 2.0], dtype=torch.float64)
    image = torch.stack([angles.cos(), angles.sin()], dim=1).float()
    rows, columns, _ = consistent_neighborhoods({"image": image}, 3)["image"]
    assert ((0, 1) in zip(rows.tolist(), columns.tolist(), strict=True)) == (above > 0)


def test_an_item_is_its_own_neighbor_beside_many_duplicates() -> None:
    image = torch.randn(60, 8, generator=torch.Generator().manual_seed(0))
    image[:20] = image[0]
    rows, columns, values = consistent_neighborhoods({"image": image}, 4)["image"]
    own = rows == columns
    assert rows[own].tolist() == list(range(60))
    torch.testing.assert_close(values[own], torch.ones(60))


def test_no_encoder_is_trained_end_to_end_with_it() -> None:
    conf = {"data": {"name": "toyshop"}, "encoder": {"name": "color"}, "recommender": {"name": "damrs"}}
    assert make_plan(load_spec(conf | {"features": {"train": "frozen"}})).recommender.label == "DAMRS"
    with pytest.raises(ConfigError, match="features only choose the edges of graphs in DAMRS"):
        make_plan(load_spec(conf | {"features": {"train": "end2end"}}))
