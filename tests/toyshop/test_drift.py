"""Drifting tastes: without drift the shop is byte for byte what it was; with it purchases follow each day's tastes."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from lmm4rec.core.errors import ConfigError
from lmm4rec.toyshop.world import World, make_world

GOLDEN = {  # purchases, affinity and popularity, before there was any drift
    (): "1c4f0cd38219677e6e2ef1ebd4456177ecbe92eff786df439b62a159439f4697",
    (("seed", 3), ("users", 40), ("items", 60), ("interactions", 500)): (
        "d02e27cc82af9d4c8632e85a3b064b8f1e077751a33c1fc87a6d33e24e8c142c"
    ),
}


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(seed=1, users=300, items=200, interactions=6000, drift=1.0, new_items=0.3)


@pytest.mark.parametrize("keys", list(GOLDEN))
def test_without_drift_nothing_has_changed(keys: tuple[tuple[str, int], ...]) -> None:
    world, digest = make_world(**dict(keys)), hashlib.sha256()
    for column in (*world.purchases, world.affinity, world.popularity):
        digest.update(column.tobytes())
    assert digest.hexdigest() == GOLDEN[keys]
    assert world.last_affinity is None


def shares(world: World) -> np.ndarray:
    """When each purchase was, as a share of the days that the shop is open (730 from 2023 on)."""
    return (world.purchases.timestamps - 1_672_531_200) / 86_400 / 730


def test_purchases_follow_the_tastes_of_their_day(world: World) -> None:
    assert world.last_affinity is not None
    users, items, when = world.purchases.users, world.purchases.items, shares(world)
    first, last = world.affinity[users, items], world.last_affinity[users, items]
    early, late = when < 0.2, when > 0.8
    assert first[early].mean() > 1.2
    assert last[early].mean() < 0.6
    assert last[late].mean() > 1.2
    assert first[late].mean() < 0.6
    assert abs(np.corrcoef(world.affinity.ravel(), world.last_affinity.ravel())[0, 1]) < 0.1
    assert world.last_affinity.std() == pytest.approx(1.0, abs=0.01)
    half = make_world(seed=1, users=300, items=200, interactions=6000, drift=0.6)
    assert half.last_affinity is not None
    assert np.corrcoef(half.affinity.ravel(), half.last_affinity.ravel())[0, 1] == pytest.approx(0.8, abs=0.05)


def test_nothing_is_bought_twice_or_before_it_is_on_sale(world: World) -> None:
    users, items, when = world.purchases.users, world.purchases.items, shares(world)
    assert len(users) == 6000 == len(np.unique(users.astype(np.int64) * 200 + items))
    assert world.released is not None
    assert (world.released > 0).sum() == 60
    assert (when >= world.released[items]).all()
    assert (when[world.released[items] > 0.5]).size > 100
    assert (np.diff(world.purchases.timestamps) >= 0).all()
    assert np.bincount(users, minlength=300).min() >= 5


@pytest.mark.long
def test_it_repeats_and_too_many_new_items_are_refused(world: World) -> None:
    again = make_world(seed=1, users=300, items=200, interactions=6000, drift=1.0, new_items=0.3)
    assert all((first == second).all() for first, second in zip(world.purchases, again.purchases, strict=True))
    assert (make_world(seed=2, users=300, items=200, interactions=6000, drift=1.0).purchases.items[:50]).tolist() != (
        again.purchases.items[:50].tolist()
    )
    with pytest.raises(ConfigError, match=r"new_items = 0.5 of the toy shop can be at most 0.4"):
        make_world(new_items=0.5)
