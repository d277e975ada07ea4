"""The toy shop whole: items with images and words, users with known tastes, and what they bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int64

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Fraction, Item, NonNegativeInt, PositiveInt
from lmm4rec.toyshop.attributes import CATEGORIES, MATERIALS, MATERIALS_OF, VALUES
from lmm4rec.toyshop.descriptions import SECOND_LINES, SHOP_LINES, Words, describe
from lmm4rec.toyshop.drawing import Drawing, random_drawing
from lmm4rec.toyshop.purchases import Purchases, draw_popularity, draw_purchases
from lmm4rec.toyshop.tastes import draw_affinity, draw_kinds

FEWEST_ITEMS = 20
_WITHOUT_PICTURE, _WITHOUT_WORDS = 0.025, 0.02  # shares of the items
_SHOP, _SECOND_CATALOG = 0, 1  # streams of random numbers that never meet, whatever the seeds

Attributes: TypeAlias = Mapping[str, Int64[np.ndarray, " items"]]
"""Of each attribute, each item's value: a position in `VALUES` of the module `attributes`."""


@dataclass(frozen=True)
class World:
    """The shop and the truth about it: what its items are and what its users like."""

    items: tuple[Item, ...]
    users: tuple[str, ...]  # external ids
    purchases: Purchases
    attributes: Attributes
    kinds: tuple[str, ...]  # what each user's taste goes by: "looks", "words" or "both"
    affinity: Float32[np.ndarray, "users items"]  # how much each user likes each item, popularity and chance aside
    popularity: Float64[np.ndarray, " items"]  # the logarithm of each item's pull on everybody; -inf: not yet on sale


def make_world(
    *,
    seed: NonNegativeInt = 0,
    users: PositiveInt = 800,
    items: PositiveInt = 500,
    interactions: PositiveInt = 12_000,
    mention_looks: Fraction = 0.3,
) -> World:
    """The shop that belongs to a seed.

    Args:
        seed: the same seed gives the same shop.
        users: how many customers it has.
        items: how many things it sells, 20 or more; a few of them lack the image, a few the words.
        interactions: how many purchases the log holds, 5 or more a user.
        mention_looks: the share of the items whose words name color or pattern.

    Raises:
        ConfigError: there are too few items, or too few or too many interactions for them and the users.
    """
    if items < FEWEST_ITEMS:
        raise ConfigError(f"items = {items}: the toy shop needs {FEWEST_ITEMS} or more")
    rng = np.random.default_rng([seed, _SHOP])
    attributes = _draw_attributes(items, rng)
    images, words = _draw_content(attributes, SHOP_LINES, mention_looks, rng)
    _leave_out(images, words, rng)
    kinds = draw_kinds(users, rng)
    affinity = draw_affinity(kinds, attributes, rng).astype(np.float32)
    popularity = draw_popularity(items, rng)
    purchases = draw_purchases(affinity, popularity, attributes["season"], interactions=interactions, rng=rng)
    ids = tuple(f"u{number:03d}" for number in range(1, users + 1))
    return World(_items("T", images, words), ids, purchases, attributes, kinds, affinity, popularity)


def make_pretraining_items(
    *, seed: NonNegativeInt = 1, items: PositiveInt = 2_000, mention_looks: Fraction = 0.9
) -> tuple[Item, ...]:
    """Items of a second catalog, none of which is in any shop: pairs of image and text to pre-train on."""
    rng = np.random.default_rng([seed, _SECOND_CATALOG])
    images, words = _draw_content(_draw_attributes(items, rng), SECOND_LINES, mention_looks, rng)
    return _items("P", images, words)


def _draw_attributes(items: int, rng: np.random.Generator) -> dict[str, Int64[np.ndarray, " items"]]:
    """The values of all items, evenly drawn; the material is one that the category can be made of."""
    drawn = {name: rng.integers(len(values), size=items) for name, values in VALUES.items()}
    for row, category in enumerate(drawn["category"]):
        possible = MATERIALS_OF[CATEGORIES[category]]
        drawn["material"][row] = MATERIALS.index(possible[int(rng.integers(len(possible)))])
    return drawn


def _draw_content(
    attributes: Attributes, lines: Sequence[str], mention_looks: float, rng: np.random.Generator
) -> tuple[list[Drawing | None], list[Words]]:
    images: list[Drawing | None] = []
    words = []
    for row in range(len(attributes["color"])):
        values = {name: VALUES[name][chosen[row]] for name, chosen in attributes.items()}
        images.append(random_drawing(values["category"], values["color"], values["pattern"], rng))
        words.append(describe(values, lines=lines, mention_looks=bool(rng.random() < mention_looks), rng=rng))
    return images, words


def _leave_out(images: list[Drawing | None], words: list[Words], rng: np.random.Generator) -> None:
    """Take the image from a few items and the words from a few others."""
    items = len(images)
    shuffled = rng.permutation(items)
    bare, silent = max(1, round(_WITHOUT_PICTURE * items)), max(1, round(_WITHOUT_WORDS * items))
    for row in shuffled[:bare]:
        images[row] = None
    for row in shuffled[bare : bare + silent]:
        words[row] = Words()


def _items(prefix: str, images: Sequence[Drawing | None], words: Sequence[Words]) -> tuple[Item, ...]:
    return tuple(
        Item(f"{prefix}{number:04d}", asdict(said), image)
        for number, (said, image) in enumerate(zip(words, images, strict=True), start=1)
    )
