"""The built-in toy shop: a data set drawn from a seed, with nothing to download."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
import polars as pl
from typing_extensions import Doc

from lmm4rec.core.types import Fraction, Item, NonNegativeInt, PositiveInt
from lmm4rec.core.vocabulary import Vocabulary
from lmm4rec.data.catalog import Catalog
from lmm4rec.data.dataset import Dataset
from lmm4rec.data.interactions import Interactions
from lmm4rec.toyshop.world import make_pretraining_items, make_world

__all__ = ["load", "pretraining_catalog"]


def load(
    *,
    seed: Annotated[NonNegativeInt, Doc("The same seed gives the same shop.")] = 0,
    users: Annotated[PositiveInt, Doc("Number of users.")] = 800,
    items: Annotated[PositiveInt, Doc("Number of items, 20 or more; a few of them lack image or text.")] = 500,
    interactions: Annotated[PositiveInt, Doc("Number of purchases, at least 5 per user.")] = 12_000,
    mention_looks: Annotated[Fraction, Doc("Share of the items whose text names the color or the pattern.")] = 0.3,
    drift: Annotated[Fraction, Doc("How far tastes drift from the first day to the last; 0: not at all.")] = 0.0,
    new_items: Annotated[Fraction, Doc("Share of the items that come on sale later, at most 0.4.")] = 0.0,
) -> Dataset:
    """The toy shop of a seed: purchases by its users, with images and text of the items.

    Raises:
        ConfigError: there are too few items, or too few or too many interactions for them and the users.
    """
    world = make_world(
        seed=seed, users=users, items=items, interactions=interactions, mention_looks=mention_looks, drift=drift,
        new_items=new_items,
    )  # fmt: skip
    return Dataset(
        "toyshop", Vocabulary(world.users, kind="user"), _catalog(world.items), Interactions(*world.purchases)
    )


def pretraining_catalog(
    *, seed: NonNegativeInt = 1, items: PositiveInt = 2_000, mention_looks: Fraction = 0.9
) -> Catalog:
    """A second catalog of such items, none of which is in any shop: pairs of image and text to pre-train on."""
    return _catalog(make_pretraining_items(seed=seed, items=items, mention_looks=mention_looks))


def _catalog(items: Sequence[Item]) -> Catalog:
    fields = pl.DataFrame([item.fields for item in items])
    images = tuple(item.image for item in items)
    return Catalog(Vocabulary(item.id for item in items), fields, images, np.arange(len(items)), len(items))
