"""BPR-SGD: its steps by hand, its machine code beside the same function in Python, and as the Trainer trains it."""

from __future__ import annotations

from math import exp, log1p

import numpy as np
import pytest
import torch
from small import graph

from lmm4rec.core.errors import MissingExtraError, TrainingError
from lmm4rec.features.source import Frozen
from lmm4rec.nn import pairwise_steps
from lmm4rec.nn.graph import InteractionGraph
from lmm4rec.nn.pairwise_steps import compiled_descend, descend
from lmm4rec.recommenders.bprsgd import BPRSGD
from lmm4rec.training.objective import RankingObjective
from lmm4rec.training.sampler import WholeEpoch
from lmm4rec.training.trainer import Trainer

RATE, L2 = 0.1, 0.01


def pass_over(users: list[int], starts: list[int], items: list[int], *, n_items: int, compiled: bool) -> tuple:
    """The vectors of users and items after one pass from the same first vectors, and its mean loss."""
    rng = np.random.default_rng(0)
    vectors = [rng.normal(size=(n, 3)).astype(np.float32) for n in (len(starts) - 1, n_items)]
    arrays = [np.array(each, dtype=np.int64) for each in (users, starts, items)]
    run = compiled_descend() if compiled else descend
    loss = run(*arrays, *vectors, np.float32(RATE), np.float32(L2), 7)
    return (*vectors, loss)


def test_a_step_is_the_published_one() -> None:
    """Rendle et al. 2009, fig. 4: theta + alpha (sigmoid(-x_uij) d x_uij / d theta - lambda theta), by hand."""
    rng = np.random.default_rng(0)
    (u,), (i, j) = rng.normal(size=(1, 3)), rng.normal(size=(2, 3))
    users, items, loss = pass_over([0], [0, 1], [0], n_items=2, compiled=True)  # item 1 is the only negative
    x = u @ (i - j)
    slope = 1 / (1 + exp(x))
    np.testing.assert_allclose(users[0], u + RATE * (slope * (i - j) - L2 * u), rtol=1e-5)
    np.testing.assert_allclose(items[0], i + RATE * (slope * u - L2 * i), rtol=1e-5)
    np.testing.assert_allclose(items[1], j + RATE * (-slope * u - L2 * j), rtol=1e-5)
    assert loss == pytest.approx(log1p(exp(-x)), rel=1e-5)


def test_negatives_are_items_that_the_user_lacks() -> None:
    """30 users have items 0 to 2 of 4. By small steps from zeros each pull adds rate / 2, each push takes as much."""
    users, starts, items = np.repeat(np.arange(30), 3), np.arange(0, 91, 3), np.tile(np.arange(3), 30)
    item_vectors, rate = np.zeros((4, 1), np.float32), np.float32(1e-4)
    compiled_descend()(users, starts, items, np.ones((30, 1), np.float32), item_vectors, rate, np.float32(0), 3)
    np.testing.assert_allclose(item_vectors[:, 0] / (rate / 2), [30, 30, 30, -90], rtol=1e-2)


def test_the_machine_code_does_what_the_function_says() -> None:
    """The random numbers of Numba are NumPy's, so both visit the same triples."""
    users, starts, items = [0, 0, 1, 2, 2, 2], [0, 2, 3, 6], [0, 3, 1, 0, 2, 4]
    found = pass_over(users, starts, items, n_items=6, compiled=True)
    expected = pass_over(users, starts, items, n_items=6, compiled=False)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


def test_a_user_with_every_item_has_no_step() -> None:
    loss = pass_over([0, 0], [0, 2], [0, 1], n_items=2, compiled=True)[-1]
    assert loss == 0


def test_an_epoch_of_the_trainer_is_a_pass_and_the_loss_falls() -> None:
    on = graph()
    model = BPRSGD(on, {}, torch.Generator().manual_seed(0), dim=8, step_size=0.1)
    sampler = WholeEpoch(on.users, on.items, on.n_items)
    history = Trainer(epochs=30, device="cpu").fit(RankingObjective(model, Frozen({})), sampler, None)
    losses = [row["loss.bpr"] for row in history.rows]
    assert losses[0] == pytest.approx(np.log(2), abs=0.05)
    assert losses[-1] < 0.5 * losses[0]


def test_steps_that_are_too_large_stop_the_training() -> None:
    on = graph()
    model = BPRSGD(on, {}, torch.Generator().manual_seed(0), dim=8, step_size=1e6)
    objective, sampler = RankingObjective(model, Frozen({})), WholeEpoch(on.users, on.items, on.n_items)
    with pytest.raises(TrainingError, match=r"the loss is not finite in epoch \d, step \d: bpr = (nan|inf)"):
        Trainer(epochs=3, device="cpu").fit(objective, sampler, None)


def test_repeated_interactions_count_once() -> None:
    twice = InteractionGraph(torch.tensor([0, 0, 1]), torch.tensor([1, 1, 0]), 2, 3)
    once = InteractionGraph(torch.tensor([0, 1]), torch.tensor([1, 0]), 2, 3)
    tables = []
    for each in (twice, once):
        model = BPRSGD(each, {}, torch.Generator().manual_seed(0), dim=4)
        model.sweep({}, torch.Generator().manual_seed(1))
        tables.append(model.users.detach().clone())
    assert torch.equal(*tables)


def test_without_numba_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "numba", None)
    pairwise_steps.compiled_descend.cache_clear()
    with pytest.raises(MissingExtraError, match=r"pip install 'lmm4rec\[numba\]'"):
        BPRSGD(graph(), {}, torch.Generator())
    with pytest.raises(MissingExtraError):
        BPRSGD.require_packages()  # what the doctor asks
    monkeypatch.undo()
    pairwise_steps.compiled_descend.cache_clear()
