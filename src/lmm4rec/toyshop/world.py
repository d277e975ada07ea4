"""The whole toy shop: items with images and text, users with known tastes, and their purchases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float32, Float64, Int64

from lmm4rec.core.errors import ConfigError
from lmm4rec.core.types import Fraction, Item, ItemImage, NonNegativeInt, PositiveInt
from lmm4rec.toyshop.attributes import CATEGORIES, MATERIALS, MATERIALS_OF, VALUES
from lmm4rec.toyshop.descriptions import SECOND_LINES, SHOP_LINES, ItemText, describe
from lmm4rec.toyshop.drawing import Drawing, random_drawing
from lmm4rec.toyshop.drifting_purchases import draw_drifting_purchases, draw_releases
from lmm4rec.toyshop.labels import labeled
from lmm4rec.toyshop.purchases import Purchases, draw_popularity, draw_purchases
from lmm4rec.toyshop.tastes import draw_affinity, draw_kinds, drifted

FEWEST_ITEMS = 20
_WITHOUT_IMAGE, _WITHOUT_TEXT = 0.025, 0.02  # shares of the items
_SHOP, _SECOND_CATALOG, _DRIFT = 0, 1, 2  # separate streams of random numbers, whatever the seeds

Attributes: TypeAlias = Mapping[str, Int64[np.ndarray, " items"]]
"""The value of each attribute for each item: a position in `VALUES` of the module `attributes`."""


@dataclass(frozen=True)
class World:
    """The shop and the truth about it: its items, users and purchases, and the tastes behind them."""

    items: tuple[Item, ...]
    users: tuple[str, ...]  # external ids
    purchases: Purchases
    attributes: Attributes
    kinds: tuple[str, ...]  # the attributes of each user's taste: "looks", "text" or "both"
    affinity: Float32[np.ndarray, "users items"]  # of each user to each item, without popularity and chance
    popularity: Float64[np.ndarray, " items"]  # log-popularity of each item; -inf: not yet on sale
    last_affinity: Float32[np.ndarray, "users items"] | None = None  # on the last day, where tastes drift
    released: Float64[np.ndarray, " items"] | None = None  # when each item comes on sale, as a share of all days


def make_world(
    *,
    seed: NonNegativeInt = 0,
    users: PositiveInt = 800,
    items: PositiveInt = 500,
    interactions: PositiveInt = 12_000,
    mention_looks: Fraction = 0.3,
    drift: Fraction = 0.0,
    new_items: Fraction = 0.0,
) -> World:
    """The shop of a seed, with at least 20 items and 5 purchases per user; a few items lack the image or the text.

    `mention_looks` is the share of the items whose text names color or pattern. `drift` is how far tastes drift from
    the first day to the last: their correlation is sqrt(1 - drift^2). `new_items` is the share of the items that come
    on sale one after the other while the shop is open. With 0 for both the shop is that without them.

    Raises:
        ConfigError: there are too few items, or too few or too many interactions for them and the users, or too many
            items are new.
    """
    if items < FEWEST_ITEMS:
        raise ConfigError(f"items = {items}: the toy shop needs {FEWEST_ITEMS} or more")
    rng = np.random.default_rng([seed, _SHOP])
    attributes = _draw_attributes(items, rng)
    drawn, texts = _draw_content(attributes, SHOP_LINES, mention_looks, rng)
    images: list[Drawing | None] = [*drawn]
    _remove_content(images, texts, rng)
    kinds = draw_kinds(users, rng)
    affinity = draw_affinity(kinds, attributes, rng).astype(np.float32)
    popularity = draw_popularity(items, rng)
    ids = tuple(f"u{number:03d}" for number in range(1, users + 1))
    season, catalog = attributes["season"], _items("T", images, texts)
    if not (drift or new_items):
        purchases = draw_purchases(affinity, popularity, season, interactions=interactions, rng=rng)
        return World(catalog, ids, purchases, attributes, kinds, affinity, popularity)
    other_rng = np.random.default_rng([seed, _DRIFT])
    other = draw_affinity(kinds, attributes, other_rng).astype(np.float32)
    released = draw_releases(items, new_items, other_rng)
    purchases = draw_drifting_purchases(
        lambda time: drifted(affinity, other, drift * time), popularity, season, released,
        interactions=interactions, rng=rng,
    )  # fmt: skip
    last = drifted(affinity, other, drift)
    return World(catalog, ids, purchases, attributes, kinds, affinity, popularity, last, released)


def make_pretraining_items(
    *, seed: NonNegativeInt = 1, items: PositiveInt = 2_000, mention_looks: Fraction = 0.9
) -> tuple[Item, ...]:
    """Items of a second catalog, none of which is in any shop: pairs of image and text to pre-train on.

    Its images carry labels (see the module `labels`).
    """
    rng = np.random.default_rng([seed, _SECOND_CATALOG])
    attributes = _draw_attributes(items, rng)
    images, texts = _draw_content(attributes, SECOND_LINES, mention_looks, rng)
    values = [{name: VALUES[name][chosen[row]] for name, chosen in attributes.items()} for row in range(items)]
    return _items("P", [labeled(image, of, rng) for image, of in zip(images, values, strict=True)], texts)


def _draw_attributes(items: int, rng: np.random.Generator) -> dict[str, Int64[np.ndarray, " items"]]:
    """The values of all items, evenly drawn; the material is one of the category's."""
    drawn = {name: rng.integers(len(values), size=items) for name, values in VALUES.items()}
    for row, category in enumerate(drawn["category"]):
        possible = MATERIALS_OF[CATEGORIES[category]]
        drawn["material"][row] = MATERIALS.index(possible[int(rng.integers(len(possible)))])
    return drawn


def _draw_content(
    attributes: Attributes, lines: Sequence[str], mention_looks: float, rng: np.random.Generator
) -> tuple[list[Drawing], list[ItemText]]:
    images, texts = [], []
    for row in range(len(attributes["color"])):
        values = {name: VALUES[name][chosen[row]] for name, chosen in attributes.items()}
        images.append(random_drawing(values["category"], values["color"], values["pattern"], rng))
        texts.append(describe(values, lines=lines, mention_looks=bool(rng.random() < mention_looks), rng=rng))
    return images, texts


def _remove_content(images: list[Drawing | None], texts: list[ItemText], rng: np.random.Generator) -> None:
    """Remove the image of a few items and the text of a few others."""
    items = len(images)
    shuffled = rng.permutation(items)
    no_image, no_text = max(1, round(_WITHOUT_IMAGE * items)), max(1, round(_WITHOUT_TEXT * items))
    for row in shuffled[:no_image]:
        images[row] = None
    for row in shuffled[no_image : no_image + no_text]:
        texts[row] = ItemText()


def _items(prefix: str, images: Sequence[ItemImage | None], texts: Sequence[ItemText]) -> tuple[Item, ...]:
    return tuple(
        Item(f"{prefix}{number:04d}", asdict(text), image)
        for number, (text, image) in enumerate(zip(texts, images, strict=True), start=1)
    )
