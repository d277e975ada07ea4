"""The built-in world: a shop drawn from a seed, with nothing to download."""

from __future__ import annotations

from lmm4rec.core.types import Fraction, NonNegativeInt, PositiveInt
from lmm4rec.data.dataset import Dataset
from lmm4rec.toyshop.world import make_world

__all__ = ["load"]


def load(
    *,
    seed: NonNegativeInt = 0,
    users: PositiveInt = 800,
    items: PositiveInt = 500,
    interactions: PositiveInt = 12_000,
    mention_looks: Fraction = 0.3,
) -> Dataset:
    """The toy shop that belongs to a seed: what its customers bought, with images and words of the items.

    Args:
        seed: the same seed gives the same shop.
        users: how many customers it has.
        items: how many things it sells, 20 or more; a few of them lack the image, a few the words.
        interactions: how many purchases the log holds, 5 or more a user.
        mention_looks: the share of the items whose words name color or pattern, which else only the image shows.

    Raises:
        ConfigError: there are too few items, or too few or too many interactions for them and the users.
    """
    world = make_world(seed=seed, users=users, items=items, interactions=interactions, mention_looks=mention_looks)
    return world.dataset()
