"""EASE with content against the regressions that it solves, and ELSA against its authors' package."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from small import ITEMS, USERS, graph, interactions
from torch import Tensor

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Batch, Features
from lmm4rec.nn import item_regression
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.projections import center_of, centered
from lmm4rec.recommenders.addease import AddEASE
from lmm4rec.recommenders.cease import CEASE
from lmm4rec.recommenders.ease import EASE
from lmm4rec.recommenders.elsa import ELSA

NO_RANDOMNESS = torch.Generator()
BUILDERS = {
    "cease": partial(CEASE, l2_weight=2.0, content_weight=3.0),
    "addease": partial(AddEASE, l2_weight=2.0, content_l2_weight=0.5, content_share=0.25),
}


def features() -> dict[str, Tensor]:
    """Item 3 lacks its image."""
    generator = torch.Generator().manual_seed(1)
    x = {"image": torch.randn(ITEMS, 2, generator=generator), "text": torch.randn(ITEMS, 7, generator=generator)}
    x["image"][3] = 0
    return x


def content() -> np.ndarray:
    """The features [items, all widths], each modality centered over the items that have it, in unit rows."""
    parts = []
    for tensor in features().values():
        x = tensor.double().numpy()
        has = x.any(1)
        centered = np.where(has[:, None], x - x[has].mean(0), 0)
        parts.append(centered / np.where(has, np.linalg.norm(centered, axis=1), 1)[:, None])
    return np.concatenate(parts, axis=1)


def regression(rows: np.ndarray, item: int, among: list[int], l2_weight: float) -> np.ndarray:
    """The weights of the items `among` others that predict an item's column of the rows best."""
    x = rows[:, among]
    weights = np.zeros(ITEMS)
    weights[among] = np.linalg.solve(x.T @ x + l2_weight * np.eye(len(among)), x.T @ rows[:, item])
    return weights


def expected(name: str, item: int) -> np.ndarray:
    """The item's weights by the definitions."""
    x, others = interactions(), [other for other in range(ITEMS) if other != item]
    if name == "cease":
        return regression(np.concatenate([x, 3**0.5 * content().T]), item, others, 2.0)
    by_interactions, by_content = regression(x, item, others, 2.0), regression(content().T, item, others, 0.5)
    return 0.75 * by_interactions + 0.25 * by_content


@pytest.mark.parametrize("name", BUILDERS)
def test_each_item_is_regressed_on_the_others_by_interactions_and_content(name: str) -> None:
    scorer = BUILDERS[name](graph(), features(), NO_RANDOMNESS).embed(features())
    weights = np.stack([expected(name, item) for item in range(ITEMS)])
    np.testing.assert_allclose(scorer.similarity.numpy(), weights, atol=1e-6)
    np.testing.assert_allclose(scorer.scores(torch.arange(USERS)).numpy(), interactions() @ weights.T, atol=1e-6)


@pytest.mark.parametrize("name", BUILDERS)
def test_the_content_of_an_item_gives_the_weights_that_it_would_have_as_a_new_one(name: str) -> None:
    """The regression of its content on that of the other items; the weight 3 of content against 2 is 1 against 2/3."""
    model = BUILDERS[name](graph(), features(), NO_RANDOMNESS)
    model.embed(features())
    items = torch.tensor([4, 1, 3])
    others = [[other for other in range(ITEMS) if other != item] for item in items.tolist()]
    l2_weight = {"cease": 2 / 3, "addease": 0.5}[name]
    as_new = np.stack(
        [regression(content().T, item, among, l2_weight) for item, among in zip(items.tolist(), others, strict=True)]
    )
    np.testing.assert_allclose(model.similarity_as_new(items, features()).numpy(), as_new, atol=1e-6)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_new_item_gets_its_weights_from_content_alone(name: str) -> None:
    """An item without interactions that the model was not fitted on, with the center of those that it was."""
    x, known = features(), {m: x[:-1] for m, x in features().items()}
    edges = graph().items < ITEMS - 1  # item 4 has none
    fitted = InteractionGraph(graph().users[edges], graph().items[edges], USERS, ITEMS - 1)
    model = BUILDERS[name](fitted, known, NO_RANDOMNESS)
    model.embed(known)
    row = sum(path(x[m][-1:]) for m, path in model.content_projections().items())
    unit = {m: (v[-1] - model.content_projections()[m].center) for m, v in x.items()}
    new = np.concatenate([(v / v.norm()).numpy() for v in unit.values()])
    f, l2_weight = _content_of(known), {"cease": 2 / 3, "addease": 0.5}[name]
    weights = np.linalg.solve(f @ f.T + l2_weight * np.eye(ITEMS - 1), f @ new)
    np.testing.assert_allclose(row[0].numpy(), weights, atol=1e-6)


def _content_of(x: Features) -> np.ndarray:
    return np.concatenate([centered(v, center_of(v)).double().numpy() for v in x.values()], axis=1)


def test_single_precision_of_large_catalogs_and_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = EASE(graph(), {}, NO_RANDOMNESS, l2_weight=2.0).embed({}).similarity
    monkeypatch.setattr(item_regression, "_DOUBLE_ITEMS", 1)
    monkeypatch.setattr(item_regression, "_ROWS", 2)
    scorer = EASE(graph(), {}, NO_RANDOMNESS, l2_weight=2.0).embed({})
    torch.testing.assert_close(scorer.similarity, exact, atol=1e-6, rtol=1e-5)


def test_the_largest_weights_by_size_are_kept() -> None:
    dense = BUILDERS["cease"](graph(), features(), NO_RANDOMNESS).embed(features()).similarity
    sparse = BUILDERS["cease"](graph(), features(), NO_RANDOMNESS, neighbors=2).embed(features()).similarity.to_dense()
    for row, kept in zip(dense, sparse, strict=True):
        largest = row.abs().topk(2).indices
        torch.testing.assert_close(kept, torch.zeros(ITEMS).index_put((largest,), row[largest]))


def test_a_matrix_that_does_not_fit_is_refused_with_its_size_before_any_work() -> None:
    large = InteractionGraph(torch.tensor([0, 1]), torch.tensor([0, 63_000]), 2, 63_001)
    with pytest.raises(ConfigError, match=r'63,001 × 63,001 items: 15\.9 GB, but memory_gb is 8\. Take name = "elsa"'):
        EASE(large, {}, NO_RANDOMNESS)


def test_loss_and_gradient_of_elsa_equal_those_of_the_authors_package() -> None:
    """elsarec 0.1.4 from these weights; its loss is the mean over 5 items, ours the sum."""
    model = ELSA(graph(), {}, NO_RANDOMNESS, dim=3)
    with torch.no_grad():
        model.items.copy_(torch.arange(1.0, ITEMS * 3 + 1).reshape(ITEMS, 3).sin())
    users = torch.arange(5)
    loss = model.losses(Batch(users, users, users[:, None]), {}, NO_RANDOMNESS)["nmse"]
    loss.backward()
    assert loss.item() == pytest.approx(2.595869302749634, rel=1e-6)
    gradient = [
        [-1.1906587e-03, 7.8538433e-04, 2.0393683e-03],
        [-2.2847839e-02, 8.6506829e-03, 3.2195814e-02],
        [4.4575892e-04, -7.6089054e-05, -5.2797142e-04],
        [2.3229364e-02, -1.0959804e-04, -2.3347773e-02],
        [-4.1937665e-03, -5.6993216e-04, 3.5778945e-03],
    ]
    torch.testing.assert_close(model.items.grad, torch.tensor(gradient), atol=1e-6, rtol=1e-4)


def test_scores_of_elsa_are_those_of_the_equation_but_for_items_of_the_history() -> None:
    model = ELSA(graph(), {}, torch.Generator().manual_seed(0), dim=4)
    items = model.items.detach().double().numpy()
    items /= np.linalg.norm(items, axis=1, keepdims=True)
    x = interactions()
    scores = model.embed({}).scores(torch.arange(USERS)).detach().numpy()
    np.testing.assert_allclose(scores - x, x @ (items @ items.T - np.eye(ITEMS)), atol=1e-6)
