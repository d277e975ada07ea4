"""The sealed split: what chooses cannot reach the test part."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest

from lmm4rec.core.errors import DataError
from lmm4rec.data.interactions import Interactions
from lmm4rec.data.sources.toyshop import load
from lmm4rec.data.splits import Split, split


@pytest.fixture(scope="module")
def whole() -> Split:
    return split(load(users=40, items=40, interactions=400), "random")


def test_nothing_of_the_test_part_is_in_it(whole: Split) -> None:
    sealed = whole.without_test()
    assert sealed.train is whole.train
    assert sealed.valid is whole.valid
    n_items = whole.dataset.n_items
    left = set(sealed.dataset.interactions.pairs(n_items).tolist())
    assert not left & set(whole.test.pairs(n_items).tolist())
    known = [set(part.pairs(n_items).tolist()) for part in (whole.train, whole.valid)]
    assert left == known[0] | known[1]
    assert (sealed.dataset.n_users, sealed.dataset.n_items) == (whole.dataset.n_users, n_items)


@pytest.mark.parametrize(
    "ask",
    [
        lambda test: test.users,
        lambda test: test.items,
        len,
        lambda test: test.item_counts(5),
        lambda test: test.take(np.array([0])),
        lambda test: test.fingerprint,
        vars,
        copy.copy,
        lambda test: test == 1,
    ],
)
def test_whatever_is_asked_of_it_raises(whole: Split, ask: Callable[[Interactions], object]) -> None:
    with pytest.raises(DataError, match="the test part is sealed"):
        ask(whole.without_test().test)


def test_its_fingerprint_needs_the_test_part(whole: Split) -> None:
    with pytest.raises(DataError, match="sealed"):
        _ = whole.without_test().fingerprint
