"""The toy shop as a data set: its numbers and ids are those of the world."""

from __future__ import annotations

import numpy as np

from lmm4rec.core.registry import SOURCES, hyper_parameters
from lmm4rec.data.sources.toyshop import load, pretraining_catalog
from lmm4rec.toyshop.world import make_pretraining_items, make_world

SMALL = {"users": 40, "items": 60, "interactions": 500}


def test_the_source_takes_what_the_world_takes() -> None:
    assert SOURCES.get("toyshop") is load
    assert hyper_parameters(load) == hyper_parameters(make_world)
    assert hyper_parameters(pretraining_catalog) == hyper_parameters(make_pretraining_items)


def test_the_data_set_holds_the_world() -> None:
    data, world = load(seed=2, **SMALL), make_world(seed=2, **SMALL)
    assert (data.name, data.n_users, data.n_items, len(data.interactions)) == ("toyshop", 40, 60, 500)
    assert tuple(data.users) == world.users
    assert tuple(data.catalog) == world.items
    log = data.interactions
    for column, drawn in zip((log.users, log.items, log.ratings, log.timestamps), world.purchases, strict=True):
        assert column is not None
        assert column.dtype == drawn.dtype
        assert np.array_equal(column, drawn)


def test_the_catalog_to_pretrain_on_is_the_second_one() -> None:
    catalog = pretraining_catalog(items=30)
    assert tuple(catalog) == make_pretraining_items(items=30)
    assert catalog.has_image.all()
    assert not set(catalog.ids) & set(load(**SMALL).items)
